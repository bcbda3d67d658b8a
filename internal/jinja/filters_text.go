package jinja

import (
	"errors"
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// softStr is markupsafe.soft_str: Markup stays Markup.
func (r *run) softStr(v Value) (Value, string, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, "", err
	}
	return like(v, s), s, nil
}

// textFilter makes a filter of a function of one string.
func textFilter(f func(string) string) func(r *run, a []Value) (Value, error) {
	return func(r *run, a []Value) (Value, error) {
		v, s, err := r.softStr(a[0])
		if err != nil {
			return nil, err
		}
		if err := r.alloc(3 * len(s)); err != nil {
			return nil, err
		}
		return like(v, f(s)), nil
	}
}

// titleFilter is the filter title: what follows white space or an opening bracket starts
// with a capital.
func titleFilter(s string) string {
	var b strings.Builder
	for s != "" {
		size := strings.IndexFunc(s, startsWord)
		switch {
		case size < 0:
			size = len(s)
		case size == 0:
			_, size = utf8.DecodeRuneInString(s)
			b.WriteString(s[:size])
			s = s[size:]
			continue
		}
		_, first := utf8.DecodeRuneInString(s)
		b.WriteString(upper(s[:first]))
		b.WriteString(lower(s[first:size]))
		s = s[size:]
	}
	return b.String()
}

func startsWord(c rune) bool { return strings.ContainsRune("-({[<", c) || isSpace(c) }

func filterString(r *run, a []Value) (Value, error) {
	v, _, err := r.softStr(a[0])
	return v, err
}

func filterEscape(r *run, a []Value) (Value, error) {
	s, err := r.escape(a[0])
	return markupValue(s), err
}

func filterForceEscape(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	s, err = r.escapeHTML(s)
	return markupValue(s), err
}

func filterSafe(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	return markupValue(s), err
}

func filterTrim(r *run, a []Value) (Value, error) {
	v, s, err := r.softStr(a[0])
	if err != nil {
		return nil, err
	}
	s, err = r.strip(s, a[1], true, true)
	return like(v, s), err
}

func filterReplace(r *run, a []Value) (Value, error) {
	var text [3]string
	for i := range text {
		var err error
		if text[i], err = r.str(a[i]); err != nil {
			return nil, err
		}
	}
	count := -1
	if !noneArg(a[3]) {
		var err error
		if count, err = intArg(a[3], -1); err != nil {
			return nil, err
		}
	}
	s, err := r.replace(text[0], text[1], text[2], count)
	return strValue(s), err
}

func (r *run) replace(s, old, new string, count int) (string, error) {
	if err := r.scan(len(s)); err != nil {
		return "", err
	}
	n := strings.Count(s, old)
	if count >= 0 {
		n = min(n, count)
	}
	grown := len(new) - len(old)
	if grown > 0 && n > r.largest/grown {
		return "", r.alloc(-1)
	}
	if err := r.alloc(len(s) + max(0, n*grown)); err != nil {
		return "", err
	}
	return strings.Replace(s, old, new, count), nil
}

func filterCenter(r *run, a []Value) (Value, error) {
	v, s, err := r.softStr(a[0])
	if err != nil {
		return nil, err
	}
	width, err := intArg(a[1], 80)
	if err != nil {
		return nil, err
	}
	s, err = r.pad(s, width, " ", '^')
	return like(v, s), err
}

// pad fills s up to width characters: '<' keeps it left, '>' right, '^' in the middle as
// str.center does.
func (r *run) pad(s string, width int, fill string, align byte) (string, error) {
	n, err := r.countRunes(s)
	if err != nil || width <= n {
		return s, err
	}
	total := width - n
	if total > r.largest/utf8.UTFMax {
		return "", r.alloc(-1)
	}
	if err := r.alloc(len(s) + total*len(fill)); err != nil {
		return "", err
	}
	left := 0
	switch align {
	case '>':
		left = total
	case '^':
		left = total/2 + total&width&1
	}
	return strings.Repeat(fill, left) + s + strings.Repeat(fill, total-left), nil
}

func filterIndent(r *run, a []Value) (Value, error) {
	s, ok := asStr(a[0])
	if !ok {
		if u, ok := a[0].(*undefined); ok {
			return nil, undefinedError(u)
		}
		return nil, unsupported("+=", a[0], strValue(""))
	}
	indention := ""
	if t, ok := asStr(a[1]); ok {
		indention = t
	} else {
		width, err := intArg(a[1], 4)
		if err != nil {
			return nil, err
		}
		if indention, err = r.pad("", width, " ", '<'); err != nil {
			return nil, err
		}
	}
	first, err := r.boolArg(a[2])
	if err != nil {
		return nil, err
	}
	blank, err := r.boolArg(a[3])
	if err != nil {
		return nil, err
	}
	if err := r.alloc(len(s) + stringBytes*count(s, isLineEnd)); err != nil {
		return nil, err
	}
	lines := splitLines(s+"\n", false)
	if len(indention) > 0 && len(lines) > r.largest/len(indention) {
		return nil, r.alloc(-1)
	}
	if err := r.alloc(len(s) + len(lines)*len(indention)); err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == 0 && first || i > 0 && (blank || line != "") {
			b.WriteString(indention)
		}
		b.WriteString(line)
	}
	return like(a[0], b.String()), nil
}

func filterTruncate(r *run, a []Value) (Value, error) {
	size, ok, err := r.length(a[0])
	if err != nil || !ok {
		return nil, fmt.Errorf("object of type '%s' has no len()", a[0].typeName())
	}
	length, err := intArg(a[1], 255)
	if err != nil {
		return nil, err
	}
	kill, err := r.boolArg(a[2])
	if err != nil {
		return nil, err
	}
	end := "..."
	if a[3] != nil {
		if end, err = textArg(a[3]); err != nil {
			return nil, err
		}
	}
	leeway := 5
	if !noneArg(a[4]) {
		if leeway, err = intArg(a[4], 5); err != nil {
			return nil, err
		}
	}
	n := utf8.RuneCountInString(end)
	if length < n {
		return nil, fmt.Errorf("expected length >= %d, got %d", n, length)
	}
	if leeway < 0 {
		return nil, fmt.Errorf("expected leeway >= 0, got %d", leeway)
	}
	if size <= length+leeway {
		return a[0], nil
	}
	s, err := textArg(a[0])
	if err != nil {
		return nil, err
	}
	s = s[:byteOffset(s, length-n)]
	if !kill {
		if i := strings.LastIndexByte(s, ' '); i >= 0 {
			s = s[:i]
		}
	}
	return like(a[0], s+end), r.alloc(len(s) + len(end))
}

func isWord(c rune) bool {
	return c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c)
}

func filterWordcount(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	n, inside := 0, false
	for _, c := range s {
		word := isWord(c)
		if word && !inside {
			n++
		}
		inside = word
	}
	return intValue(n), r.scan(len(s))
}

func filterStriptags(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	if err := r.alloc(3 * len(s)); err != nil {
		return nil, err
	}
	var b strings.Builder
	for {
		start := strings.IndexByte(s, '<')
		if start < 0 {
			break
		}
		closing, from := ">", start
		if strings.HasPrefix(s[start:], "<!--") {
			closing, from = "-->", start+4
		}
		end := strings.Index(s[from:], closing)
		if end < 0 {
			break
		}
		b.WriteString(s[:start])
		s = s[from+end+len(closing):]
	}
	b.WriteString(s)
	return strValue(html.UnescapeString(collapseSpace(b.String()))), nil
}

// collapseSpace is " ".join(s.split()).
func collapseSpace(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	space := false
	for _, c := range strings.TrimFunc(s, isSpace) {
		if isSpace(c) {
			space = true
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(c)
	}
	return b.String()
}

func filterXMLAttr(r *run, a []Value) (Value, error) {
	d, err := dictArg(a[0])
	if err != nil {
		return nil, err
	}
	var parts []string
	for i, k := range d.keys {
		switch d.values[i].(type) {
		case none, *undefined:
			continue
		}
		key, err := textArg(k)
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(key, " \t\n\r\f\v/>=") {
			return nil, fmt.Errorf("Invalid character in attribute name: %s", briefRepr(k))
		}
		if key, err = r.escape(k); err != nil {
			return nil, err
		}
		value, err := r.escape(d.values[i])
		if err != nil {
			return nil, err
		}
		if err := r.alloc(2 * (len(key) + len(value) + 4)); err != nil {
			return nil, err
		}
		parts = append(parts, key+`="`+value+`"`)
	}
	out := strings.Join(parts, " ")
	space := true
	if a[1] != nil {
		if space, err = r.truth(a[1]); err != nil {
			return nil, err
		}
	}
	if space && out != "" {
		out = " " + out
	}
	return strValue(out), nil
}

func filterURLEncode(r *run, a []Value) (Value, error) {
	if s, ok := asStr(a[0]); ok {
		s, err := r.quoteURL(s, false)
		return strValue(s), err
	}
	var pairs []Value
	var err error
	switch v := a[0].(type) {
	case *dictValue:
		pairs, err = (&viewValue{v, "dict_items"}).items(r)
	default:
		if pairs, err = r.items(v); err != nil {
			s, err := r.str(v)
			if err != nil {
				return nil, err
			}
			s, err = r.quoteURL(s, false)
			return strValue(s), err
		}
	}
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, p := range pairs {
		kv, err := r.items(p)
		if err != nil {
			return nil, err
		}
		if len(kv) != 2 {
			return nil, fmt.Errorf("not a pair of key and value: %d values", len(kv))
		}
		var text [2]string
		for i, v := range kv {
			s, err := r.str(v)
			if err != nil {
				return nil, err
			}
			if text[i], err = r.quoteURL(s, true); err != nil {
				return nil, err
			}
		}
		parts = append(parts, text[0]+"="+text[1])
	}
	return strValue(strings.Join(parts, "&")), nil
}

// quoteURL is urllib.parse.quote; for a query, "/" is quoted too and a space is "+".
func (r *run) quoteURL(s string, query bool) (string, error) {
	if err := r.alloc(3 * len(s)); err != nil {
		return "", err
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isDecimal(c), c|0x20 >= 'a' && c|0x20 <= 'z', strings.IndexByte("_.-~", c) >= 0, c == '/' && !query:
			b.WriteByte(c)
		case c == ' ' && query:
			b.WriteByte('+')
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String(), nil
}

func filterFileSize(r *run, a []Value) (Value, error) {
	v, err := r.toFloatValue(a[0])
	if err != nil {
		return nil, err
	}
	bytes := float64(v)
	binary, err := r.boolArg(a[1])
	if err != nil {
		return nil, err
	}
	base, suffix := 1000.0, "B"
	prefixes := "kMGTPEZY"
	if binary {
		base, suffix, prefixes = 1024, "iB", "KMGTPEZY"
	}
	switch {
	case bytes == 1:
		return strValue("1 Byte"), nil
	case bytes < base:
		if math.IsInf(bytes, 0) {
			return nil, errors.New("cannot convert float infinity to integer")
		}
		return strValue(strconv.FormatFloat(math.Trunc(bytes)+0, 'f', -1, 64) + " Bytes"), nil
	case math.IsNaN(bytes):
		return strValue("nan " + prefixes[7:] + suffix), nil
	}
	unit := base
	for i := range prefixes {
		unit *= base
		if bytes < unit || i == len(prefixes)-1 {
			return strValue(formatFloat(base*bytes/unit, 'f', 1, false) + " " + prefixes[i:i+1] + suffix), nil
		}
	}
	return nil, nil
}
