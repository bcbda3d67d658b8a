package recipe

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// value is a typed place in a Recipe that one key fills.
type value interface {
	// kind says what a value is, to follow "must be".
	kind() string
	// decode sets the place from n, or reports why it cannot.
	decode(n *yaml.Node, report reporter)
	// encode returns the value as YAML on one line.
	encode() string
	// target returns the pointer to the place, whose zero value stands for "none" where a key is optional.
	target() any
}

// reporter takes a fault: the node at which it is, what to append to the key's name ("[2]"), and the reason.
type reporter func(n *yaml.Node, suffix, reason string)

func isUnset(v value) bool { return reflect.ValueOf(v.target()).Elem().IsZero() }
func unset(v value)        { reflect.ValueOf(v.target()).Elem().SetZero() }

// mismatch is the reason for a node that is not of the kind that v wants.
func mismatch(v value, n *yaml.Node) string {
	reason := "must be " + v.kind() + ", not " + show(n)
	switch {
	case n.Kind != yaml.ScalarNode:
	case quoted(n) && numberPattern.MatchString(n.Value):
		reason += ": remove the quotes"
	case !quoted(n) && zeroPattern.MatchString(n.Value):
		reason += ": YAML may read a leading zero as octal, leave it out"
	}
	return reason
}

var (
	wholePattern  = regexp.MustCompile(`^[-+]?[0-9]+$`)
	numberPattern = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
	zeroPattern   = regexp.MustCompile(`^[-+]?0[0-9_]`)
)

func quoted(n *yaml.Node) bool {
	return n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// show names a node in a message.
func show(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing"
	case quoted(n) || n.Value == "" || strings.ContainsFunc(n.Value, func(r rune) bool { return r < ' ' }):
		return strconv.Quote(clip(n.Value))
	}
	return clip(n.Value)
}

// clip shortens a long text for a message.
func clip(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// textOf returns a scalar that YAML reads as text. Dates count as text too.
func textOf(n *yaml.Node) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.Tag == "!!str", n.Tag == "!!timestamp", n.Tag == "!!merge":
		return n.Value, true
	}
	return "", false
}

func boolOf(n *yaml.Node) (b, ok bool) {
	if n.Kind != yaml.ScalarNode || quoted(n) {
		return false, false
	}
	switch n.Value {
	case "true", "True", "TRUE":
		return true, true
	case "false", "False", "FALSE":
		return false, true
	}
	return false, false
}

// likeBool tells whether n is a word that YAML 1.1 takes for true or false and YAML 1.2 does not.
func likeBool(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && slices.Contains([]string{"yes", "no", "on", "off", "y", "n"}, strings.ToLower(n.Value))
}

const boolHint = ": in YAML 1.2 that is text"

func wholeOf(n *yaml.Node, low, high int64) (int64, bool) {
	if n.Kind != yaml.ScalarNode || quoted(n) || !wholePattern.MatchString(n.Value) || zeroPattern.MatchString(n.Value) {
		return 0, false
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	return i, err == nil && i >= low && i <= high
}

func numberOf(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode || quoted(n) || !numberPattern.MatchString(n.Value) || zeroPattern.MatchString(n.Value) {
		return 0, false
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	return f, err == nil
}

// formatNumber writes f so that YAML 1.1, which wants a point before an exponent, reads a number too.
func formatNumber(f float64) string {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if i := strings.IndexByte(s, 'e'); i >= 0 && !strings.Contains(s, ".") {
		return s[:i] + ".0" + s[i:]
	}
	return s
}

// text is a string.
type text struct{ p *string }

func (v text) kind() string   { return "text" }
func (v text) target() any    { return v.p }
func (v text) encode() string { return quote(*v.p) }
func (v text) decode(n *yaml.Node, report reporter) {
	s, ok := textOf(n)
	switch {
	case ok:
		*v.p = s
	case n.Kind == yaml.ScalarNode && !isNull(n):
		report(n, "", fmt.Sprintf("must be text, not %s: put it in quotes", show(n)))
	default:
		report(n, "", mismatch(v, n))
	}
}

// boolean is true or false.
type boolean struct{ p *bool }

func (v boolean) kind() string   { return "true or false" }
func (v boolean) target() any    { return v.p }
func (v boolean) encode() string { return strconv.FormatBool(*v.p) }
func (v boolean) decode(n *yaml.Node, report reporter) {
	b, ok := boolOf(n)
	switch {
	case ok:
		*v.p = b
	case likeBool(n):
		report(n, "", mismatch(v, n)+boolHint)
	default:
		report(n, "", mismatch(v, n))
	}
}

// autoFlag is auto, true or false.
type autoFlag struct{ p *string }

func (v autoFlag) kind() string   { return "auto, true or false" }
func (v autoFlag) target() any    { return v.p }
func (v autoFlag) encode() string { return *v.p }
func (v autoFlag) decode(n *yaml.Node, report reporter) {
	s, _ := textOf(n)
	b, ok := boolOf(n)
	switch {
	case ok:
		*v.p = strconv.FormatBool(b)
	case s == "auto":
		*v.p = s
	case likeBool(n):
		report(n, "", mismatch(v, n)+boolHint)
	default:
		report(n, "", mismatch(v, n))
	}
}

// choice is one of a few words.
type choice struct {
	p      *string
	values []string
}

func (v choice) kind() string {
	if len(v.values) == 1 {
		return v.values[0]
	}
	return "one of " + strings.Join(v.values, ", ")
}
func (v choice) target() any    { return v.p }
func (v choice) encode() string { return *v.p }
func (v choice) decode(n *yaml.Node, report reporter) {
	s, ok := textOf(n)
	if !ok || !slices.Contains(v.values, s) {
		report(n, "", mismatch(v, n)+meant(n.Value, v.values))
		return
	}
	*v.p = s
}

// integer is a whole number from low to high.
type integer struct {
	p         *int
	low, high int64
}

func (v integer) kind() string {
	if v.high >= math.MaxInt32 {
		return fmt.Sprintf("a whole number of at least %d", v.low)
	}
	return fmt.Sprintf("a whole number from %d to %d", v.low, v.high)
}
func (v integer) target() any    { return v.p }
func (v integer) encode() string { return strconv.Itoa(*v.p) }
func (v integer) decode(n *yaml.Node, report reporter) {
	i, ok := wholeOf(n, v.low, v.high)
	if !ok {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = int(i)
}

// maxSteps is -1 or a number of steps.
type maxSteps struct{ p *int }

func (v maxSteps) kind() string   { return "-1 or a whole number of at least 1" }
func (v maxSteps) target() any    { return v.p }
func (v maxSteps) encode() string { return strconv.Itoa(*v.p) }
func (v maxSteps) decode(n *yaml.Node, report reporter) {
	i, ok := wholeOf(n, -1, 1<<30)
	if !ok || i == 0 {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = int(i)
}

// seed is what transformers.set_seed takes: numpy's range.
type seed struct{ p *uint64 }

func (v seed) kind() string   { return "a whole number from 0 to 4294967295" }
func (v seed) target() any    { return v.p }
func (v seed) encode() string { return strconv.FormatUint(*v.p, 10) }
func (v seed) decode(n *yaml.Node, report reporter) {
	i, ok := wholeOf(n, 0, math.MaxUint32)
	if !ok {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = uint64(i)
}

// threads is a number of threads, or all of them as 0.
type threads struct{ p *int }

func (v threads) kind() string { return "all or a whole number from 1 to 4096" }
func (v threads) target() any  { return v.p }
func (v threads) encode() string {
	if *v.p == 0 {
		return "all"
	}
	return strconv.Itoa(*v.p)
}
func (v threads) decode(n *yaml.Node, report reporter) {
	if s, ok := textOf(n); ok && s == "all" {
		*v.p = 0
		return
	}
	i, ok := wholeOf(n, 1, 4096)
	if !ok {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = int(i)
}

// ends says which ends of a range belong to it.
type ends int

const (
	closed   ends = iota // [low, high]
	halfOpen             // [low, high)
	open                 // (low, high)
)

// number is a finite number between low and high.
type number struct {
	p         *float64
	low, high float64
	ends      ends
}

func (v number) kind() string {
	low, high := formatNumber(v.low), strconv.FormatFloat(v.high, 'f', -1, 64)
	above := map[ends]string{closed: "of at least ", halfOpen: "of at least ", open: "above "}[v.ends]
	switch {
	case v.high >= 1e30:
		return "a number " + above + low
	case v.ends == closed:
		return "a number from " + low + " to " + high
	}
	return "a number " + above + low + " and below " + high
}
func (v number) target() any    { return v.p }
func (v number) encode() string { return formatNumber(*v.p) }
func (v number) decode(n *yaml.Node, report reporter) {
	f, ok := numberOf(n)
	ok = ok && f >= v.low && f <= v.high &&
		!(v.ends == open && f == v.low) && !(v.ends != closed && f == v.high)
	if !ok {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = f
}

// interval is an Interval; zero says whether it may be 0.
type interval struct {
	p    *Interval
	zero bool
}

func (v interval) kind() string {
	if v.zero {
		return "0, a whole number of steps, or a share below 1"
	}
	return "a whole number of steps, or a share above 0 and below 1"
}
func (v interval) target() any    { return v.p }
func (v interval) encode() string { return formatNumber(float64(*v.p)) }
func (v interval) decode(n *yaml.Node, report reporter) {
	f, ok := numberOf(n)
	if !ok || f < 0 || f > math.MaxInt32 || f == 0 && !v.zero || f > 1 && f != math.Trunc(f) {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = Interval(f)
}

// size is a number of bytes.
type size struct{ p *int64 }

var (
	sizePattern = regexp.MustCompile(`^(?i)([0-9]+(?:\.[0-9]+)?) ?(b|[kmgt]i?b)?$`)
	units       = []struct {
		name  string
		bytes int64
	}{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
	}
)

func (v size) kind() string {
	return "a size such as 16GiB (units B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)"
}
func (v size) target() any { return v.p }
func (v size) encode() string {
	for _, u := range units[:4] {
		if *v.p > 0 && *v.p%u.bytes == 0 {
			return strconv.FormatInt(*v.p/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(*v.p, 10) + "B"
}
func (v size) decode(n *yaml.Node, report reporter) {
	m := sizePattern.FindStringSubmatch(n.Value)
	if n.Kind != yaml.ScalarNode || m == nil || zeroPattern.MatchString(n.Value) {
		report(n, "", mismatch(v, n))
		return
	}
	f, err := strconv.ParseFloat(m[1], 64)
	for _, u := range units {
		if strings.EqualFold(u.name, m[2]) {
			f *= float64(u.bytes)
		}
	}
	if f = math.Trunc(f); err != nil || f < 1 || f > 1<<52 {
		report(n, "", mismatch(v, n))
		return
	}
	*v.p = int64(f)
}

// resume is true, false or a directory.
type resume struct{ p *Resume }

func (v resume) kind() string { return "true, false or a directory" }
func (v resume) target() any  { return v.p }
func (v resume) encode() string {
	if v.p.Dir != "" {
		return quote(v.p.Dir)
	}
	return strconv.FormatBool(v.p.Enabled)
}
func (v resume) decode(n *yaml.Node, report reporter) {
	b, isBool := boolOf(n)
	s, isText := textOf(n)
	switch {
	case isBool:
		*v.p = Resume{Enabled: b}
	case isNull(n): // TrainingArguments' None
		*v.p = Resume{}
	case likeBool(n) && !quoted(n):
		report(n, "", mismatch(v, n)+boolHint)
	case isText && s != "":
		*v.p = Resume{Enabled: true, Dir: s}
	default:
		report(n, "", mismatch(v, n))
	}
}
