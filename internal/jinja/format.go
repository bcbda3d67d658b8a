package jinja

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatter runs str.format with the arguments of one call.
type formatter struct {
	r      *run
	self   Value
	args   []Value
	kw     *dictValue
	auto   int  // the next {} takes this argument
	manual bool // a {0} has been seen
}

func formatMethod(r *run, args []Value, kw []keyword) (Value, error) {
	d, err := keywordDict(kw)
	if err != nil {
		return nil, err
	}
	return r.format(args[0], args[1:], d)
}

func formatMapMethod(r *run, a []Value) (Value, error) {
	d, ok := a[1].(*dictValue)
	if !ok {
		return nil, fmt.Errorf("format_map() argument must be a mapping, not %s", a[1].typeName())
	}
	return r.format(a[0], nil, d)
}

func (r *run) format(self Value, args []Value, kw *dictValue) (Value, error) {
	s, _ := asStr(self)
	f := &formatter{r: r, self: self, args: args, kw: kw}
	out, err := f.expand(s, 2)
	return like(self, out), err
}

// expand replaces the fields of s; their format specs may have fields themselves, down to
// depth.
func (f *formatter) expand(s string, depth int) (string, error) {
	if depth == 0 {
		return "", errors.New("Max string recursion exceeded")
	}
	b := &textBuilder{r: f.r}
	for s != "" {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			err := b.put(s)
			return b.String(), err
		}
		if err := b.put(s[:at]); err != nil {
			return "", err
		}
		c := s[at]
		s = s[at+1:]
		switch {
		case s != "" && s[0] == c:
			if err := b.put(s[:1]); err != nil {
				return "", err
			}
			s = s[1:]
			continue
		case c == '}':
			return "", errors.New("Single '}' encountered in format string")
		case s == "":
			return "", errors.New("Single '{' encountered in format string")
		}
		end := closingBrace(s)
		if end < 0 {
			return "", errors.New("expected '}' before end of string")
		}
		text, err := f.field(s[:end], depth)
		if err != nil {
			return "", err
		}
		if err := b.put(text); err != nil {
			return "", err
		}
		s = s[end+1:]
	}
	return b.String(), nil
}

// closingBrace finds the brace that ends a field. Brackets hide braces.
func closingBrace(s string) int {
	depth, bracket := 1, false
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '[':
			bracket = true
		case ']':
			bracket = false
		case '{':
			if !bracket {
				depth++
			}
		case '}':
			if bracket {
				continue
			}
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// field formats name!conversion:spec.
func (f *formatter) field(field string, depth int) (string, error) {
	name, spec, conversion := field, "", byte(0)
	if at := strings.IndexAny(field, "!:"); at >= 0 && !strings.Contains(field[:at], "[") || at >= 0 && strings.Contains(field[:at], "]") {
		name = field[:at]
		if field[at] == ':' {
			spec = field[at+1:]
		} else {
			rest := field[at+1:]
			if rest == "" {
				return "", errors.New("end of string while looking for conversion specifier")
			}
			conversion = rest[0]
			if rest = rest[1:]; rest != "" {
				if rest[0] != ':' {
					return "", errors.New("expected ':' after conversion specifier")
				}
				spec = rest[1:]
			}
		}
	}
	v, err := f.lookup(name)
	if err != nil {
		return "", err
	}
	if conversion != 0 {
		if strings.IndexByte("sra", conversion) < 0 {
			return "", fmt.Errorf("Unknown conversion specifier %s", reprString(string(conversion)))
		}
		s, err := f.r.convertText(conversion, strValue(""), v)
		if err != nil {
			return "", err
		}
		v = strValue(s)
	}
	if strings.ContainsAny(spec, "{}") {
		if spec, err = f.expand(spec, depth-1); err != nil {
			return "", err
		}
	}
	s, err := f.r.formatValue(v, spec)
	if err != nil {
		return "", err
	}
	if _, ok := f.self.(markupValue); ok {
		if _, ok := v.(markupValue); !ok {
			return f.r.escapeHTML(s)
		}
	}
	return s, nil
}

// lookup finds what a field names: an argument, and attributes and items from there on.
func (f *formatter) lookup(name string) (Value, error) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, rest := name[:end], name[end:]
	v, err := f.argument(first)
	for err == nil && rest != "" {
		if err := f.r.step(1); err != nil {
			return nil, err
		}
		if rest[0] == '.' {
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			if end == 1 {
				return nil, errors.New("Empty attribute in format string")
			}
			v, err = f.r.attribute(v, rest[1:end])
			rest = rest[end:]
			continue
		}
		end := strings.IndexByte(rest, ']')
		switch {
		case rest[0] != '[':
			return nil, errors.New("Only '.' or '[' may follow ']' in format field specifier")
		case end < 0:
			return nil, errors.New("Missing ']' in format string")
		case end == 1:
			return nil, errors.New("Empty attribute in format string")
		}
		key := Value(strValue(rest[1:end]))
		if i, ok := argNumber(rest[1:end]); ok {
			key = intValue(i)
		}
		v, err = f.r.item(v, key)
		rest = rest[end+1:]
	}
	return v, err
}

func argNumber(s string) (int, bool) {
	if !isDigits(s) || !isASCII(s) {
		return 0, false
	}
	i, err := strconv.Atoi(s)
	return i, err == nil
}

func (f *formatter) argument(name string) (Value, error) {
	i, numbered := argNumber(name)
	switch {
	case name == "":
		if f.manual {
			return nil, errors.New("cannot switch from manual field specification to automatic field numbering")
		}
		i = f.auto
		f.auto++
	case numbered:
		if f.auto > 0 {
			return nil, errors.New("cannot switch from automatic field numbering to manual field specification")
		}
		f.manual = true
	default:
		v, err := f.kw.get(strValue(name))
		if v == nil && err == nil {
			err = fmt.Errorf("the format names %s, which is no argument", reprString(name))
		}
		return v, err
	}
	if i >= len(f.args) {
		return nil, fmt.Errorf("Replacement index %d out of range for positional args tuple", i)
	}
	return f.args[i], nil
}

// formatSpec is [[fill]align][sign][z][#][0][width][grouping][.precision][type].
type formatSpec struct {
	fill      string
	align     byte // 0: the type's own
	sign      byte
	alt, zero bool
	width     int
	group     byte
	precision int // -1: none
	verb      byte
}

func parseFormatSpec(s string) (formatSpec, error) {
	spec := formatSpec{fill: " ", precision: -1}
	_, size := utf8.DecodeRuneInString(s)
	aligns := func(i int) bool { return i < len(s) && strings.IndexByte("<>=^", s[i]) >= 0 }
	if size > 0 && aligns(size) {
		spec.fill, spec.align, s = s[:size], s[size], s[size+1:]
	} else if aligns(0) {
		spec.align, s = s[0], s[1:]
	}
	eat := func(set string) byte {
		if s == "" || strings.IndexByte(set, s[0]) < 0 {
			return 0
		}
		c := s[0]
		s = s[1:]
		return c
	}
	number := func() (int, bool, error) {
		i := 0
		for i < len(s) && isDecimal(s[i]) {
			i++
		}
		n, err := strconv.Atoi(s[:i])
		if i > 0 && (err != nil || n > 1<<31) {
			return 0, false, errors.New("Too many decimal digits in format string")
		}
		s = s[i:]
		return n, i > 0, nil
	}
	spec.sign = eat("+- ")
	spec.alt = eat("#") != 0
	if spec.zero = eat("0") != 0; spec.zero && spec.align == 0 {
		spec.fill, spec.align = "0", '='
	}
	var err error
	if spec.width, _, err = number(); err != nil {
		return spec, err
	}
	spec.group = eat(",_")
	if eat(".") != 0 {
		var ok bool
		if spec.precision, ok, err = number(); err != nil || !ok {
			return spec, errors.New("Format specifier missing precision")
		}
	}
	if len(s) > 1 {
		return spec, errors.New("Invalid format specifier")
	}
	if s != "" {
		spec.verb = s[0]
	}
	return spec, nil
}

// formatValue is Python's format(v, spec).
func (r *run) formatValue(v Value, text string) (string, error) {
	if text == "" {
		return r.str(v)
	}
	spec, err := parseFormatSpec(text)
	if err != nil {
		return "", err
	}
	unknown := fmt.Errorf("Unknown format code '%c' for object of type '%s'", spec.verb, v.typeName())
	if s, ok := asStr(v); ok {
		if spec.verb != 0 && spec.verb != 's' {
			return "", unknown
		}
		if spec.sign != 0 || spec.alt || spec.group != 0 || spec.align == '=' && !spec.zero {
			return "", errors.New("the format has an option that strings do not take")
		}
		if spec.precision >= 0 {
			s = s[:byteOffset(s, spec.precision)]
		}
		return r.align(spec, "", s, '<')
	}
	if !isNumber(v) {
		return "", fmt.Errorf("unsupported format string passed to %s.__format__", v.typeName())
	}
	_, isFloat := v.(floatValue)
	if b, ok := v.(boolValue); ok && spec.verb == 0 {
		v = intValue(0)
		if b {
			v = intValue(1)
		}
	}
	switch {
	case isFloat && (spec.verb == 0 || strings.IndexByte("eEfFgGn%", spec.verb) >= 0),
		!isFloat && spec.verb != 0 && strings.IndexByte("eEfFgG%", spec.verb) >= 0:
		f, err := toFloat(v)
		if err != nil {
			return "", err
		}
		return r.formatFloatValue(spec, f)
	case !isFloat && (spec.verb == 0 || strings.IndexByte("bcdnoxX", spec.verb) >= 0):
		return r.formatIntValue(spec, asBig(v))
	}
	return "", unknown
}

func (r *run) formatIntValue(spec formatSpec, i *big.Int) (string, error) {
	if spec.precision >= 0 {
		return "", errors.New("Precision not allowed in integer format specifier")
	}
	if spec.verb == 'c' {
		s, err := convertChar(intOf(i))
		if err != nil {
			return "", err
		}
		return r.align(spec, "", s, '<')
	}
	sign := signOf(spec, i.Sign() < 0)
	i = new(big.Int).Abs(i)
	size, prefix := 3, ""
	var s string
	switch spec.verb {
	case 'b':
		s, prefix, size = i.Text(2), "0b", 4
	case 'o':
		s, prefix, size = i.Text(8), "0o", 4
	case 'x':
		s, prefix, size = i.Text(16), "0x", 4
	case 'X':
		s, prefix, size = strings.ToUpper(i.Text(16)), "0X", 4
	default:
		var err error
		if s, err = bigString(i); err != nil {
			return "", err
		}
	}
	if size == 4 && spec.group == ',' {
		return "", fmt.Errorf("Cannot specify ',' with '%c'.", spec.verb)
	}
	if !spec.alt {
		prefix = ""
	}
	return r.alignNumber(spec, sign+prefix, s, "", size)
}

func signOf(spec formatSpec, negative bool) string {
	switch {
	case negative:
		return "-"
	case spec.sign == '+' || spec.sign == ' ':
		return string(spec.sign)
	}
	return ""
}

func (r *run) formatFloatValue(spec formatSpec, f float64) (string, error) {
	precision, verb, suffix := spec.precision, spec.verb, ""
	if precision > maxPrecision {
		return "", fmt.Errorf("a precision of more than %d digits", maxPrecision)
	}
	var s string
	switch {
	case verb == 0 && precision < 0:
		s = floatRepr(f)
	case verb == 0:
		precision = max(1, precision)
		s = formatGeneral(f, precision, precision-1, spec.alt) // leaves room for ".0"
		if !strings.ContainsAny(s, ".en") {
			s += ".0"
		}
	case verb == '%':
		if precision < 0 {
			precision = 6
		}
		s, suffix = formatFloat(f*100, 'f', precision, spec.alt), "%"
	default:
		if precision < 0 {
			precision = 6
		}
		if verb == 'n' {
			verb = 'g'
		}
		s = formatFloat(f, verb, precision, spec.alt)
	}
	negative := s[0] == '-'
	s = strings.TrimPrefix(s, "-")
	end := strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(s)
	}
	return r.alignNumber(spec, signOf(spec, negative), s[:end], s[end:]+suffix, 3)
}

// alignNumber groups the whole digits of a number and fills it up.
func (r *run) alignNumber(spec formatSpec, prefix, whole, rest string, size int) (string, error) {
	if spec.group != 0 && whole != "" {
		if spec.align == '=' && spec.fill == "0" { // zeros are grouped with the digits
			var err error
			room := spec.width - len(prefix) - len(rest)
			if whole, err = r.pad(whole, room-(room-1)/(size+1), "0", '>'); err != nil {
				return "", err
			}
		}
		var b strings.Builder
		for i, c := range whole {
			if i > 0 && (len(whole)-i)%size == 0 {
				b.WriteByte(spec.group)
			}
			b.WriteRune(c)
		}
		whole = b.String()
	}
	return r.align(spec, prefix, whole+rest, '>')
}

func (r *run) align(spec formatSpec, prefix, s string, own byte) (string, error) {
	align := spec.align
	if align == 0 || align == '=' && own == '<' {
		align = own
	}
	switch align {
	case '=':
		out, err := r.pad(s, spec.width-len(prefix), spec.fill, '>')
		return prefix + out, err
	case '^': // the odd one goes to the right
		n := utf8.RuneCountInString(prefix + s)
		if spec.width <= n {
			return prefix + s, nil
		}
		out, err := r.pad(prefix+s, n+(spec.width-n)/2, spec.fill, '>')
		if err != nil {
			return "", err
		}
		return r.pad(out, spec.width, spec.fill, '<')
	}
	return r.pad(prefix+s, spec.width, spec.fill, align)
}
