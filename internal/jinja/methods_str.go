package jinja

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// method makes a string method of a function of its text. The result is Markup if self is.
func method(name, signature string, f func(r *run, s string, a []Value) (string, error)) *native {
	return define(name, "self "+signature+" /", func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		if err := r.scan(len(s)); err != nil {
			return nil, err
		}
		out, err := f(r, s, a[1:])
		return like(a[0], out), err
	})
}

func predicate(name string, f func(s string) bool) *native {
	return define(name, "self /", func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		return boolValue(f(s)), r.scan(len(s))
	})
}

// everyRune makes a predicate of one on characters; the empty string has none.
func everyRune(f func(c rune) bool) func(s string) bool {
	return func(s string) bool {
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !f(c) }) < 0
	}
}

func stringMethods() map[string]*native {
	recase := func(name string, f func(string) string) *native {
		return method(name, "", func(r *run, s string, _ []Value) (string, error) {
			return f(s), r.alloc(3 * len(s))
		})
	}
	stripper := func(name string, left, right bool) *native {
		return method(name, "chars?", func(r *run, s string, a []Value) (string, error) {
			return r.strip(s, a[0], left, right)
		})
	}
	padder := func(name string, align byte) *native {
		return method(name, "width fillchar?", func(r *run, s string, a []Value) (string, error) {
			width, err := intArg(a[0], 0)
			if err != nil {
				return "", err
			}
			fill := " "
			if a[1] != nil {
				if fill, err = textArg(a[1]); err == nil && utf8.RuneCountInString(fill) != 1 {
					err = errors.New("The fill character must be exactly one character long")
				}
			}
			if err != nil {
				return "", err
			}
			return r.pad(s, width, fill, align)
		})
	}
	numeric := func(c rune) bool { return unicode.IsNumber(c) }
	digit := func(c rune) bool { return unicode.IsDigit(c) || isSuperscript(c) }
	m := map[string]*native{
		"upper":      recase("upper", upper),
		"lower":      recase("lower", lower),
		"casefold":   recase("casefold", casefold),
		"title":      recase("title", titleWords),
		"capitalize": recase("capitalize", capitalize),
		"swapcase":   recase("swapcase", swapCase),
		"strip":      stripper("strip", true, true),
		"lstrip":     stripper("lstrip", true, false),
		"rstrip":     stripper("rstrip", false, true),
		"ljust":      padder("ljust", '<'),
		"rjust":      padder("rjust", '>'),
		"center":     padder("center", '^'),
		"zfill":      method("zfill", "width", zfill),
		"expandtabs": nil,
		"replace": method("replace", "old new count?", func(r *run, s string, a []Value) (string, error) {
			old, err := textArg(a[0])
			if err != nil {
				return "", err
			}
			new, err := textArg(a[1])
			if err != nil {
				return "", err
			}
			count, err := intArg(a[2], -1)
			if err != nil {
				return "", err
			}
			return r.replace(s, old, new, count)
		}),
		"removeprefix": method("removeprefix", "prefix", func(_ *run, s string, a []Value) (string, error) {
			p, err := textArg(a[0])
			return strings.TrimPrefix(s, p), err
		}),
		"removesuffix": method("removesuffix", "suffix", func(_ *run, s string, a []Value) (string, error) {
			p, err := textArg(a[0])
			return strings.TrimSuffix(s, p), err
		}),
		"join": define("join", "self iterable /", func(r *run, a []Value) (Value, error) {
			items, err := r.items(a[1])
			if err != nil {
				return nil, err
			}
			for i, v := range items {
				if _, ok := asStr(v); !ok {
					return nil, fmt.Errorf("sequence item %d: expected str instance, %s found", i, v.typeName())
				}
			}
			v, err := filterJoin(r, []Value{&listValue{items}, a[0], nil})
			if err != nil {
				return nil, err
			}
			s, _ := asStr(v)
			return like(a[0], s), nil
		}),
		"split":      define("split", "self sep? maxsplit?", splitMethod(false)),
		"rsplit":     define("rsplit", "self sep? maxsplit?", splitMethod(true)),
		"splitlines": define("splitlines", "self keepends?", splitlinesMethod),
		"partition":  define("partition", "self sep /", partitionMethod(strings.Index, true)),
		"rpartition": define("rpartition", "self sep /", partitionMethod(strings.LastIndex, false)),
		"startswith": define("startswith", "self prefix start? end? /", affixMethod(strings.HasPrefix)),
		"endswith":   define("endswith", "self suffix start? end? /", affixMethod(strings.HasSuffix)),
		"find":       define("find", "self sub start? end? /", findMethod(strings.Index, false)),
		"rfind":      define("rfind", "self sub start? end? /", findMethod(strings.LastIndex, false)),
		"index":      define("index", "self sub start? end? /", findMethod(strings.Index, true)),
		"rindex":     define("rindex", "self sub start? end? /", findMethod(strings.LastIndex, true)),
		"count":      define("count", "self sub start? end? /", countMethod),
		"format":     defineRaw("format", formatMethod),
		"format_map": define("format_map", "self mapping /", formatMapMethod),

		"isascii":     predicate("isascii", isASCII),
		"isalpha":     predicate("isalpha", everyRune(unicode.IsLetter)),
		"isdecimal":   predicate("isdecimal", everyRune(unicode.IsDigit)),
		"isdigit":     predicate("isdigit", everyRune(digit)),
		"isnumeric":   predicate("isnumeric", everyRune(numeric)),
		"isalnum":     predicate("isalnum", everyRune(func(c rune) bool { return unicode.IsLetter(c) || numeric(c) })),
		"isspace":     predicate("isspace", everyRune(isSpace)),
		"isprintable": predicate("isprintable", func(s string) bool { return s == "" || everyRune(unicode.IsPrint)(s) }),
		"islower":     predicate("islower", isLower),
		"isupper":     predicate("isupper", isUpper),
		"istitle":     predicate("istitle", isTitle),
		"isidentifier": predicate("isidentifier", func(s string) bool {
			c, _ := utf8.DecodeRuneInString(s)
			return isNameStart(c) && everyRune(isNamePart)(s)
		}),
	}
	for _, name := range []string{"encode", "expandtabs", "maketrans", "translate"} {
		m[name] = defineRaw(name, func(*run, []Value, []keyword) (Value, error) {
			return nil, fmt.Errorf("str.%s is not supported in chat templates", name)
		})
	}
	return m
}

// isSuperscript holds for the digits that are no decimal digits: superscripts and such.
func isSuperscript(c rune) bool {
	return c == '²' || c == '³' || c == '¹' || c >= 0x2070 && c <= 0x2089 && unicode.IsNumber(c) ||
		c >= 0x2460 && c <= 0x2468 || c >= 0x2474 && c <= 0x247c || c >= 0x2488 && c <= 0x2490
}

// casefold is str.casefold. Cherokee folds to its capitals, and has no use here.
func casefold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for _, c := range s {
		if t, ok := specialFold[c]; ok {
			b.WriteString(t)
		} else {
			b.WriteString(lower(string(c)))
		}
	}
	return b.String()
}

func isTitle(s string) bool {
	found, inside := false, false
	for _, c := range s {
		switch {
		case unicode.IsUpper(c) || unicode.IsTitle(c):
			if inside {
				return false
			}
			found, inside = true, true
		case isCased(c):
			if !inside {
				return false
			}
		default:
			inside = false
		}
	}
	return found
}

// strip removes characters of chars, white space if that is none, from the ends of s.
func (r *run) strip(s string, chars Value, left, right bool) (string, error) {
	in := isSpace
	if !noneArg(chars) {
		set, err := textArg(chars)
		if err != nil {
			return "", fmt.Errorf("strip arg must be None or str: %w", err)
		}
		if in, err = r.runeSet(set); err != nil {
			return "", err
		}
	}
	if left {
		s = strings.TrimLeftFunc(s, in)
	}
	if right {
		s = strings.TrimRightFunc(s, in)
	}
	return s, nil
}

// runeSet holds for the characters of s. A long s has to be as quick as a short one.
func (r *run) runeSet(s string) (func(c rune) bool, error) {
	const short = 16
	if len(s) <= short {
		return func(c rune) bool { return strings.ContainsRune(s, c) }, nil
	}
	set := make([]uint64, utf8.MaxRune/64+1)
	for _, c := range s {
		set[c/64] |= 1 << (c % 64)
	}
	return func(c rune) bool { return set[c/64]>>(c%64)&1 == 1 }, r.scan(len(s) + 8*len(set))
}

func zfill(r *run, s string, a []Value) (string, error) {
	width, err := intArg(a[0], 0)
	if err != nil {
		return "", err
	}
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign = s[:1]
	}
	out, err := r.pad(s[len(sign):], width-len(sign), "0", '>')
	return sign + out, err
}

// strings makes a list of strings like self; who calls it has paid.
func (r *run) strings(self Value, parts []string) (Value, error) {
	if err := r.step(len(parts)); err != nil {
		return nil, err
	}
	items := make([]Value, len(parts))
	for i, p := range parts {
		items[i] = like(self, p)
	}
	return &listValue{items}, nil
}

func splitMethod(fromRight bool) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		if err := r.scan(len(s)); err != nil {
			return nil, err
		}
		limit, err := intArg(a[2], -1)
		if err != nil {
			return nil, err
		}
		if limit < 0 {
			limit = len(s) + 1
		}
		if noneArg(a[1]) {
			if err := r.alloc(stringBytes * min(limit, countWords(s))); err != nil {
				return nil, err
			}
			return r.strings(a[0], splitSpace(s, limit, fromRight))
		}
		sep, err := textArg(a[1])
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errors.New("empty separator")
		}
		n := min(limit, strings.Count(s, sep))
		if err := r.alloc(stringBytes * n); err != nil {
			return nil, err
		}
		if !fromRight {
			return r.strings(a[0], strings.SplitN(s, sep, n+1))
		}
		parts := make([]string, n+1)
		for i := n; i > 0; i-- {
			at := strings.LastIndex(s, sep)
			parts[i], s = s[at+len(sep):], s[:at]
		}
		parts[0] = s
		return r.strings(a[0], parts)
	}
}

func countWords(s string) int {
	n, inside := 0, false
	for _, c := range s {
		space := isSpace(c)
		if !space && !inside {
			n++
		}
		inside = !space
	}
	return n
}

// splitSpace splits at runs of white space, at most limit times.
func splitSpace(s string, limit int, fromRight bool) []string {
	var parts []string
	if fromRight {
		for s = strings.TrimRightFunc(s, isSpace); s != ""; s = strings.TrimRightFunc(s, isSpace) {
			at := strings.LastIndexFunc(s, isSpace)
			if at < 0 || limit == 0 {
				parts = append(parts, s)
				break
			}
			limit--
			_, size := utf8.DecodeRuneInString(s[at:])
			parts = append(parts, s[at+size:])
			s = s[:at]
		}
		for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
			parts[i], parts[j] = parts[j], parts[i]
		}
		return parts
	}
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		at := strings.IndexFunc(s, isSpace)
		if at < 0 || limit == 0 {
			return append(parts, s)
		}
		limit--
		parts = append(parts, s[:at])
		s = s[at:]
	}
	return parts
}

func splitlinesMethod(r *run, a []Value) (Value, error) {
	s, _ := asStr(a[0])
	keep, err := r.boolArg(a[1])
	if err != nil {
		return nil, err
	}
	if err := r.alloc(stringBytes * count(s, isLineEnd)); err != nil {
		return nil, err
	}
	return r.strings(a[0], splitLines(s, keep))
}

// partitionMethod cuts at the separator that index finds. Where there is none, all of the text
// is the first part, or else the last.
func partitionMethod(index func(s, sep string) int, first bool) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		sep, err := textArg(a[1])
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, errors.New("empty separator")
		}
		parts := [3]string{"", "", s}
		if first {
			parts = [3]string{s, "", ""}
		}
		if at := index(s, sep); at >= 0 {
			parts = [3]string{s[:at], sep, s[at+len(sep):]}
		}
		t := &tupleValue{}
		for _, p := range parts {
			t.items = append(t.items, like(a[0], p))
		}
		return t, r.scan(len(s))
	}
}

// window applies the bounds of find, count and such to s. offset is the number of characters
// in front; ok is false if the window starts behind its end.
func (r *run) window(s string, start, end Value) (part string, offset int, ok bool, err error) {
	if noneArg(start) && noneArg(end) {
		return s, 0, true, nil
	}
	n, err := r.countRunes(s)
	if err != nil {
		return "", 0, false, err
	}
	from, err := bound(start, n, 0)
	if err != nil {
		return "", 0, false, err
	}
	to, err := bound(end, n, n)
	if err != nil {
		return "", 0, false, err
	}
	to = min(to, n)
	if from > to {
		return "", 0, false, nil
	}
	at := byteOffset(s, from)
	return s[at : at+byteOffset(s[at:], to-from)], from, true, nil
}

// bound is an optional index into n characters; a negative one counts from the end.
func bound(v Value, n, otherwise int) (int, error) {
	if noneArg(v) {
		return otherwise, nil
	}
	if asBig(v) == nil {
		return 0, errors.New("slice indices must be integers or None or have an __index__ method")
	}
	i, err := intArg(v, 0)
	if i < 0 {
		i = max(0, i+n)
	}
	return i, err
}

func affixMethod(has func(s, affix string) bool) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		part, _, ok, err := r.window(s, a[2], a[3])
		if err != nil {
			return nil, err
		}
		affixes := []Value{a[1]}
		if t, isTuple := a[1].(*tupleValue); isTuple {
			affixes = t.items
		}
		for _, x := range affixes {
			affix, err := textArg(x)
			if err != nil {
				return nil, err
			}
			if err := r.step(1); err != nil {
				return nil, err
			}
			if ok && has(part, affix) {
				return boolValue(true), nil
			}
		}
		return boolValue(false), nil
	}
}

func findMethod(index func(s, sub string) int, must bool) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		s, _ := asStr(a[0])
		sub, err := textArg(a[1])
		if err != nil {
			return nil, err
		}
		part, offset, ok, err := r.window(s, a[2], a[3])
		if err != nil {
			return nil, err
		}
		if err := r.scan(len(s)); err != nil {
			return nil, err
		}
		at := -1
		if ok {
			at = index(part, sub)
		}
		switch {
		case at >= 0:
			return intValue(offset + utf8.RuneCountInString(part[:at])), nil
		case must:
			return nil, errors.New("substring not found")
		}
		return intValue(-1), nil
	}
}

func countMethod(r *run, a []Value) (Value, error) {
	s, _ := asStr(a[0])
	sub, err := textArg(a[1])
	if err != nil {
		return nil, err
	}
	part, _, ok, err := r.window(s, a[2], a[3])
	if err != nil || !ok {
		return intValue(0), err
	}
	return intValue(strings.Count(part, sub)), r.scan(len(s))
}
