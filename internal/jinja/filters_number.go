package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

func filterAbs(r *run, a []Value) (Value, error) {
	if u, ok := a[0].(*undefined); ok {
		return nil, undefinedError(u)
	}
	if f, ok := a[0].(floatValue); ok {
		return floatValue(math.Abs(float64(f))), nil
	}
	if i := asBig(a[0]); i != nil {
		return intOf(new(big.Int).Abs(i)), nil
	}
	return nil, fmt.Errorf("bad operand type for abs(): '%s'", a[0].typeName())
}

// errNotNumber and errNoNumber are Python's ValueError and TypeError of a conversion, which
// the filters int and float replace with their default.
var (
	errNotNumber = errors.New("the text is no number")
	errNoNumber  = errors.New("the value is no number")
)

// decimalDigits replaces the decimal digits of other scripts with ASCII ones, as int() and
// float() read them.
func decimalDigits(s string) string {
	if isASCII(s) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c < 0x80 || !unicode.Is(unicode.Nd, c) {
			return c
		}
		zero := c
		for unicode.Is(unicode.Nd, zero-1) && c-zero < 9 {
			zero-- // digits come in runs of ten
		}
		return '0' + c - zero
	}, s)
}

func parseInt(s string, base int) (Value, error) {
	s = decimalDigits(strings.TrimFunc(s, isSpace))
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || strings.HasPrefix(digits, "_") && base != 0 || len(digits) > maxIntDigits {
		return nil, errNotNumber
	}
	if base < 0 || base == 1 || base > 36 {
		return nil, errNotNumber
	}
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" && len(digits) > 2 && strings.EqualFold(digits[:2], prefix) {
		digits = strings.TrimPrefix(digits[2:], "_")
	}
	if base != 0 {
		if strings.HasSuffix(digits, "_") || strings.Contains(digits, "__") {
			return nil, errNotNumber
		}
		digits = strings.ReplaceAll(digits, "_", "")
		if digits == "" || !isAlnumASCII(digits) {
			return nil, errNotNumber
		}
	} else if len(digits) > 1 && digits[0] == '0' && isDecimal(digits[1]) && strings.Trim(digits, "0_") != "" {
		return nil, errNotNumber
	}
	i, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, errNotNumber
	}
	if s[0] == '-' {
		i.Neg(i)
	}
	return intOf(i), nil
}

func isAlnumASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isDecimal(c) && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	for _, c := range s {
		if !unicode.IsDigit(c) {
			return false
		}
	}
	return s != ""
}

func parseFloat(s string) (float64, error) {
	s = strings.ToLower(decimalDigits(strings.TrimFunc(s, isSpace)))
	switch strings.TrimLeft(s, "+-") {
	case "inf", "infinity", "nan":
	default:
		if strings.ContainsAny(s, "xpin") { // Go reads more than Python
			return 0, errNotNumber
		}
		for i := 0; i < len(s); i++ {
			if s[i] == '_' && (i == 0 || i+1 == len(s) || !isDecimal(s[i-1]) || !isDecimal(s[i+1])) {
				return 0, errNotNumber
			}
		}
		s = strings.ReplaceAll(s, "_", "")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, errNotNumber
	}
	return f, nil
}

// toFloatValue is Python's float(v). Errors other than errNotNumber and errNoNumber are those
// that the filters do not catch.
func (r *run) toFloatValue(v Value) (floatValue, error) {
	if s, ok := asStr(v); ok {
		f, err := parseFloat(s)
		return floatValue(f), err
	}
	if isNumber(v) {
		f, err := toFloat(v)
		return floatValue(f), err
	}
	if u, ok := v.(*undefined); ok {
		return 0, undefinedError(u)
	}
	return 0, errNoNumber
}

func filterFloat(r *run, a []Value) (Value, error) {
	f, err := r.toFloatValue(a[0])
	if errors.Is(err, errNotNumber) || errors.Is(err, errNoNumber) {
		if a[1] == nil {
			return floatValue(0), nil
		}
		return a[1], nil
	}
	return f, err
}

func filterInt(r *run, a []Value) (Value, error) {
	otherwise := a[1]
	if otherwise == nil {
		otherwise = intValue(0)
	}
	switch v := a[0].(type) {
	case floatValue:
		if math.IsNaN(float64(v)) {
			return otherwise, nil
		}
		return fromFloat(float64(v))
	case intValue, bigValue, boolValue:
		return intOf(asBig(v)), nil
	case *undefined:
		return nil, undefinedError(v)
	}
	s, ok := asStr(a[0])
	if !ok {
		return otherwise, nil
	}
	base, err := intArg(a[2], 10)
	if err != nil {
		return otherwise, nil
	}
	if v, err := parseInt(s, base); err == nil {
		return v, nil
	}
	f, err := parseFloat(s)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return otherwise, nil
	}
	return fromFloat(f)
}

func filterRound(r *run, a []Value) (Value, error) {
	method := "common"
	if a[2] != nil {
		method, _ = asStr(a[2])
	}
	if u, ok := a[0].(*undefined); ok {
		return nil, undefinedError(u)
	}
	switch method {
	case "common", "ceil", "floor":
	default:
		return nil, errors.New("method must be common, ceil or floor")
	}
	if !isNumber(a[0]) {
		return nil, fmt.Errorf("type %s doesn't define __round__ method", a[0].typeName())
	}
	if method != "common" {
		precision := a[1]
		if precision == nil {
			precision = intValue(0)
		}
		return r.roundTowards(a[0], precision, method)
	}
	if a[1] == (none{}) {
		f, ok := a[0].(floatValue)
		if !ok {
			return intOf(asBig(a[0])), nil
		}
		return fromFloat(math.RoundToEven(float64(f)))
	}
	precision, err := intArg(a[1], 0)
	if err != nil {
		return nil, err
	}
	if f, ok := a[0].(floatValue); ok {
		return floatValue(roundFloat(float64(f), precision)), nil
	}
	return roundInt(asBig(a[0]), precision)
}

// roundTowards is ceil or floor of v * 10 ** precision, divided by that again.
func (r *run) roundTowards(v, precision Value, method string) (Value, error) {
	scale, err := r.binary("**", intValue(10), precision)
	if err != nil {
		return nil, err
	}
	if v, err = r.binary("*", v, scale); err != nil {
		return nil, err
	}
	if f, ok := v.(floatValue); ok {
		round := math.Ceil
		if method == "floor" {
			round = math.Floor
		}
		if v, err = fromFloat(round(float64(f))); err != nil {
			return nil, err
		}
	}
	return r.binary("/", v, scale)
}

// roundFloat is Python's round(f, precision): half to even of the exact decimal value.
func roundFloat(f float64, precision int) float64 {
	switch {
	case math.IsNaN(f), math.IsInf(f, 0), precision > 323:
		return f
	case precision < -308:
		return math.Copysign(0, f)
	case precision >= 0:
		out, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
		return out
	}
	exact := new(big.Rat).SetFloat64(f)
	scale := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-precision)), nil))
	quotient := new(big.Rat).Quo(exact, scale)
	i := roundRat(quotient)
	out, _ := new(big.Rat).Mul(new(big.Rat).SetInt(i), scale).Float64()
	return math.Copysign(out, f)
}

// roundRat rounds half to even.
func roundRat(x *big.Rat) *big.Int {
	double := new(big.Int).Mul(x.Num(), big.NewInt(2))
	floor, rest := new(big.Int).DivMod(double, x.Denom(), new(big.Int))
	// floor of 2x: x = floor/2 plus less than a half, so only floor odd and rest 0 is a tie
	half := floor.Bit(0) == 1
	floor.Rsh(floor, 1)
	if half && (rest.Sign() != 0 || floor.Bit(0) == 1) {
		floor.Add(floor, big.NewInt(1))
	}
	return floor
}

func roundInt(i *big.Int, precision int) (Value, error) {
	if precision >= 0 {
		return intOf(i), nil
	}
	if -precision > maxIntDigits*5 {
		return intValue(0), nil
	}
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-precision)), nil)
	return intOf(scale.Mul(scale, roundRat(new(big.Rat).SetFrac(i, scale)))), nil
}

// filterFormat is printf-style formatting with the arguments of the filter.
func filterFormat(r *run, args []Value, kw []keyword) (Value, error) {
	if len(args) == 0 {
		return nil, errors.New("format() missing required argument 'value'")
	}
	v, s, err := r.softStr(args[0])
	if err != nil {
		return nil, err
	}
	if len(kw) == 0 {
		return r.printf(v, s, &tupleValue{items: args[1:]})
	}
	if len(args) > 1 {
		return nil, errors.New("can't handle positional and keyword arguments at the same time")
	}
	d, err := keywordDict(kw)
	if err != nil {
		return nil, err
	}
	return r.printf(v, s, d)
}

func keywordDict(kw []keyword) (*dictValue, error) {
	d := &dictValue{}
	for _, k := range kw {
		if err := d.set(strValue(k.name), k.value); err != nil {
			return nil, err
		}
	}
	return d, nil
}
