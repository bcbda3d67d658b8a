package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// printfSpec is one conversion of a printf-style format: %(name)-08.3f.
type printfSpec struct {
	left, plus, space, zero, alt bool
	width, precision             int // precision -1: none
	verb                         byte
}

// printf is Python's format % args: args is a tuple of arguments, or one argument, which a
// mapping may be for %(name)s. self says whether the format is Markup.
func (r *run) printf(self Value, format string, args Value) (Value, error) {
	list, isTuple := []Value{args}, false
	if t, ok := args.(*tupleValue); ok {
		list, isTuple = t.items, true
	}
	mapping, _ := args.(*dictValue)
	used, named := 0, false
	next := func() (Value, error) {
		if named || used >= len(list) {
			return nil, errors.New("not enough arguments for format string")
		}
		used++
		return list[used-1], nil
	}
	b := &textBuilder{r: r}
	for rest := format; ; {
		at := strings.IndexByte(rest, '%')
		if at < 0 {
			if err := b.put(rest); err != nil {
				return nil, err
			}
			break
		}
		if err := b.put(rest[:at]); err != nil {
			return nil, err
		}
		rest = rest[at+1:]
		var v Value
		if strings.HasPrefix(rest, "(") {
			end := closingParen(rest)
			if end < 0 {
				return nil, errors.New("incomplete format key")
			}
			if mapping == nil {
				return nil, errors.New("format requires a mapping")
			}
			name := rest[1:end]
			found, err := mapping.get(strValue(name))
			if err != nil {
				return nil, err
			}
			if found == nil {
				return nil, fmt.Errorf("the format has the key %s, its mapping has not", reprString(name))
			}
			v, named, rest = found, true, rest[end+1:]
		}
		spec, size, err := parsePrintf(rest, next)
		if err != nil {
			return nil, err
		}
		rest = rest[size:]
		if spec.verb == '%' && size == 1 {
			if err := b.put("%"); err != nil {
				return nil, err
			}
			continue
		}
		if v == nil {
			if v, err = next(); err != nil {
				return nil, err
			}
		}
		s, err := r.convert(spec, self, v)
		if err != nil {
			return nil, err
		}
		if err := b.put(s); err != nil {
			return nil, err
		}
	}
	if used < len(list) && !named && (isTuple || !acceptsLeftover(args)) {
		return nil, errors.New("not all arguments converted during string formatting")
	}
	return like(self, b.String()), nil
}

// acceptsLeftover: something with items that no conversion used is no error, but for a tuple.
func acceptsLeftover(v Value) bool {
	switch v.(type) {
	case *dictValue, *listValue, *rangeValue, *undefined:
		return true
	}
	return false
}

func closingParen(s string) int {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func parsePrintf(s string, next func() (Value, error)) (spec printfSpec, size int, err error) {
	i := 0
flags:
	for ; i < len(s); i++ {
		switch s[i] {
		case '-':
			spec.left = true
		case '+':
			spec.plus = true
		case ' ':
			spec.space = true
		case '0':
			spec.zero = true
		case '#':
			spec.alt = true
		default:
			break flags
		}
	}
	number := func() (int, error) {
		if i < len(s) && s[i] == '*' {
			i++
			v, err := next()
			if err != nil {
				return 0, err
			}
			if asBig(v) == nil {
				return 0, errors.New("* wants int")
			}
			return intArg(v, 0)
		}
		n := 0
		for ; i < len(s) && isDecimal(s[i]); i++ {
			if n = n*10 + int(s[i]-'0'); n > math.MaxInt32 {
				return 0, errors.New("width too big")
			}
		}
		return n, nil
	}
	if spec.width, err = number(); err != nil {
		return spec, 0, err
	}
	if spec.width < 0 {
		spec.left, spec.width = true, -spec.width
	}
	spec.precision = -1
	if i < len(s) && s[i] == '.' {
		i++
		if spec.precision, err = number(); err != nil {
			return spec, 0, err
		}
		spec.precision = max(0, spec.precision)
	}
	for i < len(s) && strings.IndexByte("hlL", s[i]) >= 0 {
		i++
	}
	if i >= len(s) {
		return spec, 0, errors.New("incomplete format")
	}
	spec.verb = s[i]
	return spec, i + 1, nil
}

func (r *run) convert(spec printfSpec, self, v Value) (string, error) {
	sign := ""
	var s string
	var err error
	switch spec.verb {
	case 's', 'r', 'a':
		s, err = r.convertText(spec.verb, self, v)
		if err == nil && spec.precision >= 0 {
			s = s[:byteOffset(s, spec.precision)]
		}
		spec.zero = false
	case 'c':
		s, err = convertChar(v)
		spec.zero = false
	case 'd', 'i', 'u', 'x', 'X', 'o':
		sign, s, err = r.convertInt(spec, v)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		sign, s, err = r.convertFloat(spec, v)
	default:
		c, _ := utf8.DecodeRuneInString(string(spec.verb))
		err = fmt.Errorf("unsupported format character '%c' (0x%x)", c, spec.verb)
	}
	if err != nil {
		return "", err
	}
	if strings.IndexByte("src", spec.verb) < 0 && sign == "" && spec.verb != 'a' {
		switch {
		case spec.plus:
			sign = "+"
		case spec.space:
			sign = " "
		}
	}
	switch {
	case spec.left:
		return r.pad(sign+s, spec.width, " ", '<')
	case spec.zero:
		prefix := ""
		if spec.alt && len(s) > 1 && s[0] == '0' && strings.IndexByte("xXo", s[1]) >= 0 {
			prefix, s = s[:2], s[2:]
		}
		s, err = r.pad(s, spec.width-len(sign)-len(prefix), "0", '>')
		return sign + prefix + s, err
	}
	return r.pad(sign+s, spec.width, " ", '>')
}

func (r *run) convertText(verb byte, self, v Value) (string, error) {
	var s string
	var err error
	if verb == 's' {
		s, err = r.str(v)
	} else {
		s, err = r.repr(v)
	}
	if err != nil {
		return "", err
	}
	if verb == 'a' {
		s = asciiOnly(s)
	}
	if _, ok := self.(markupValue); ok {
		if _, ok := v.(markupValue); !ok || verb != 's' {
			return r.escapeHTML(s)
		}
	}
	return s, nil
}

// asciiOnly escapes what is not ASCII in a repr.
func asciiOnly(s string) string {
	if isASCII(s) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if c < utf8.RuneSelf {
			b.WriteRune(c)
		} else {
			b.WriteString(escapeRune(c))
		}
	}
	return b.String()
}

func convertChar(v Value) (string, error) {
	if s, ok := asStr(v); ok && utf8.RuneCountInString(s) == 1 {
		return s, nil
	}
	if i := asBig(v); i != nil {
		if !i.IsInt64() || i.Sign() < 0 || i.Int64() > utf8.MaxRune || !utf8.ValidRune(rune(i.Int64())) {
			return "", errors.New("%c arg not in range(0x110000)")
		}
		return string(rune(i.Int64())), nil
	}
	return "", errors.New("%c requires int or char")
}

func (r *run) convertInt(spec printfSpec, v Value) (sign, s string, err error) {
	i := asBig(v)
	if f, ok := v.(floatValue); ok && strings.IndexByte("xXo", spec.verb) < 0 {
		whole, err := fromFloat(float64(f))
		if err != nil {
			return "", "", err
		}
		i = asBig(whole)
	}
	if i == nil {
		if u, ok := v.(*undefined); ok {
			return "", "", undefinedError(u)
		}
		return "", "", fmt.Errorf("%%%c format: a real number is required, not %s", spec.verb, v.typeName())
	}
	if i.Sign() < 0 {
		sign = "-"
		i = new(big.Int).Neg(i)
	}
	prefix := ""
	switch spec.verb {
	case 'x':
		s, prefix = i.Text(16), "0x"
	case 'X':
		s, prefix = strings.ToUpper(i.Text(16)), "0X"
	case 'o':
		s, prefix = i.Text(8), "0o"
	default:
		if s, err = bigString(i); err != nil {
			return "", "", err
		}
	}
	if s, err = r.pad(s, spec.precision, "0", '>'); err != nil {
		return "", "", err
	}
	if spec.alt {
		s = prefix + s
	}
	return sign, s, nil
}

const maxPrecision = 1 << 12 // digits of a float; more is surely a mistake

func (r *run) convertFloat(spec printfSpec, v Value) (sign, s string, err error) {
	if _, ok := asStr(v); ok || v.typeName() != "Undefined" && !isNumber(v) {
		return "", "", fmt.Errorf("must be real number, not %s", v.typeName())
	}
	f, err := r.toFloatValue(v)
	if err != nil {
		return "", "", err
	}
	precision := spec.precision
	if precision < 0 {
		precision = 6
	}
	if precision > maxPrecision {
		return "", "", fmt.Errorf("a precision of more than %d digits", maxPrecision)
	}
	s = formatFloat(float64(f), spec.verb, precision, spec.alt)
	if s[0] == '-' {
		sign, s = "-", s[1:]
	}
	return sign, s, nil
}

// formatFloat is C's %e, %f or %g.
func formatFloat(f float64, verb byte, precision int, alt bool) string {
	lowerVerb := verb | 0x20
	var s string
	switch {
	case math.IsNaN(f):
		s = "nan"
	case math.IsInf(f, 1):
		s = "inf"
	case math.IsInf(f, -1):
		s = "-inf"
	case lowerVerb == 'g':
		precision = max(1, precision)
		s = formatGeneral(f, precision, precision, alt)
	default:
		s = strconv.FormatFloat(f, lowerVerb, precision, 64)
		if alt && precision == 0 {
			if at := strings.IndexByte(s, 'e'); at >= 0 {
				s = s[:at] + "." + s[at:]
			} else {
				s += "."
			}
		}
	}
	if verb != lowerVerb {
		s = strings.ToUpper(s)
	}
	return s
}

// formatGeneral is %g: the exponent form where the exponent is below -4 or not below limit,
// which is the precision; without alt, trailing zeros go.
func formatGeneral(f float64, precision, limit int, alt bool) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return formatFloat(f, 'f', 0, false)
	}
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exp, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exp)
	trim := func(s string) string {
		switch {
		case alt && !strings.Contains(s, "."):
			return s + "."
		case alt || !strings.Contains(s, "."):
			return s
		}
		return strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	if e < -4 || e >= limit {
		return trim(mantissa) + "e" + exp
	}
	return trim(strconv.FormatFloat(f, 'f', precision-1-e, 64))
}
