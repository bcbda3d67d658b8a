package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
)

// intOf makes an integer value of i.
func intOf(i *big.Int) Value {
	if i.IsInt64() {
		return intValue(i.Int64())
	}
	return bigValue{i}
}

// asInt returns integers and booleans that fit int64.
func asInt(v Value) (int64, bool) {
	switch v := v.(type) {
	case intValue:
		return int64(v), true
	case boolValue:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// asBig returns any integer or boolean; nil for other values.
func asBig(v Value) *big.Int {
	if b, ok := v.(bigValue); ok {
		return b.i
	}
	if i, ok := asInt(v); ok {
		return big.NewInt(i)
	}
	return nil
}

func isNumber(v Value) bool {
	switch v.(type) {
	case intValue, bigValue, boolValue, floatValue:
		return true
	}
	return false
}

var errIntToFloat = errors.New("int too large to convert to float")

// toFloat converts a number as Python's float() does.
func toFloat(v Value) (float64, error) {
	switch v := v.(type) {
	case floatValue:
		return float64(v), nil
	case bigValue:
		f, _ := new(big.Float).SetInt(v.i).Float64()
		if math.IsInf(f, 0) {
			return 0, errIntToFloat
		}
		return f, nil
	}
	i, _ := asInt(v)
	return float64(i), nil
}

// fromFloat is Python's int(f).
func fromFloat(f float64) (Value, error) {
	switch {
	case math.IsNaN(f):
		return nil, errors.New("cannot convert float NaN to integer")
	case math.IsInf(f, 0):
		return nil, errors.New("cannot convert float infinity to integer")
	case math.Abs(f) < 1<<62:
		return intValue(int64(f)), nil
	}
	i, _ := big.NewFloat(f).Int(nil)
	return intOf(i), nil
}

// arithmetic applies + - * / // % ** to two numbers.
func arithmetic(op string, a, b Value) (Value, error) {
	_, fa := a.(floatValue)
	_, fb := b.(floatValue)
	if !fa && !fb {
		return intArithmetic(op, a, b)
	}
	x, err := toFloat(a)
	if err != nil {
		return nil, err
	}
	y, err := toFloat(b)
	if err != nil {
		return nil, err
	}
	return floatArithmetic(op, x, y)
}

func floatArithmetic(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return floatValue(x + y), nil
	case "-":
		return floatValue(x - y), nil
	case "*":
		return floatValue(x * y), nil
	case "**":
		return floatPower(x, y)
	}
	if y == 0 {
		switch op {
		case "/":
			return nil, errors.New("float division by zero")
		case "//":
			return nil, errors.New("float floor division by zero")
		}
		return nil, errors.New("float modulo")
	}
	if op == "/" {
		return floatValue(x / y), nil
	}
	mod := math.Mod(x, y)
	div := (x - mod) / y
	if mod != 0 {
		if (y < 0) != (mod < 0) {
			mod += y
			div--
		}
	} else {
		mod = math.Copysign(0, y)
	}
	if op == "%" {
		return floatValue(mod), nil
	}
	if div == 0 {
		return floatValue(math.Copysign(0, x/y)), nil
	}
	floor := math.Floor(div)
	if div-floor > 0.5 {
		floor++
	}
	return floatValue(floor), nil
}

func floatPower(x, y float64) (Value, error) {
	if x == 0 && y < 0 {
		return nil, errors.New("0.0 cannot be raised to a negative power")
	}
	if x < 0 && y != math.Trunc(y) && !math.IsInf(x, 0) {
		return nil, errors.New("a negative number to a fractional power is complex, which is not supported")
	}
	f := power(x, y)
	if math.IsInf(f, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		return nil, errors.New("(34, 'Numerical result out of range')")
	}
	return floatValue(f), nil
}

// power is x ** y: correctly rounded for whole exponents, where math.Pow is not.
func power(x, y float64) float64 {
	const wholeUpTo = 1 << 11
	if y != math.Trunc(y) || math.Abs(y) > wholeUpTo || x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return math.Pow(x, y)
	}
	const precision = 256 // bits, of which squaring loses a few
	z := new(big.Float).SetPrec(precision).SetInt64(1)
	base := new(big.Float).SetPrec(precision).SetFloat64(x)
	for n := int(math.Abs(y)); n > 0; n >>= 1 {
		if n&1 == 1 {
			z.Mul(z, base)
		}
		base.Mul(base, base)
	}
	if y < 0 {
		z.Quo(new(big.Float).SetPrec(precision).SetInt64(1), z)
	}
	f, _ := z.Float64()
	return f
}

var errIntTooLarge = fmt.Errorf("an integer of more than %d bits", maxIntBits)

func intArithmetic(op string, a, b Value) (Value, error) {
	if x, ok := asInt(a); ok {
		if y, ok := asInt(b); ok {
			if v, ok := smallArithmetic(op, x, y); ok {
				return v, nil
			}
		}
	}
	x, y := asBig(a), asBig(b)
	z := new(big.Int)
	switch op {
	case "+":
		z.Add(x, y)
	case "-":
		z.Sub(x, y)
	case "*":
		if x.BitLen()+y.BitLen() > maxIntBits {
			return nil, errIntTooLarge
		}
		z.Mul(x, y)
	case "**":
		return intPower(x, y)
	case "/":
		if y.Sign() == 0 {
			return nil, errors.New("division by zero")
		}
		f, _ := new(big.Rat).SetFrac(x, y).Float64()
		if math.IsInf(f, 0) {
			return nil, errors.New("integer division result too large for a float")
		}
		return floatValue(f), nil
	default: // // and %
		if y.Sign() == 0 {
			return nil, errors.New("integer division or modulo by zero")
		}
		mod := new(big.Int)
		z.QuoRem(x, y, mod)
		if mod.Sign() != 0 && mod.Sign() != y.Sign() {
			z.Sub(z, big.NewInt(1))
			mod.Add(mod, y)
		}
		if op == "%" {
			z = mod
		}
	}
	if z.BitLen() > maxIntBits {
		return nil, errIntTooLarge
	}
	return intOf(z), nil
}

// smallArithmetic handles what surely fits; ok is false otherwise.
func smallArithmetic(op string, x, y int64) (v Value, ok bool) {
	const half = 1 << 31
	small := x > -half && x < half && y > -half && y < half
	switch op {
	case "+":
		return intValue(x + y), small
	case "-":
		return intValue(x - y), small
	case "*":
		return intValue(x * y), small
	case "/":
		if small && y != 0 {
			return floatValue(float64(x) / float64(y)), true
		}
	case "//", "%":
		if !small || y == 0 {
			return nil, false
		}
		div, mod := x/y, x%y
		if mod != 0 && (mod < 0) != (y < 0) {
			div--
			mod += y
		}
		if op == "//" {
			return intValue(div), true
		}
		return intValue(mod), true
	}
	return nil, false
}

func intPower(x, y *big.Int) (Value, error) {
	if y.Sign() < 0 {
		fx, err := toFloat(intOf(x))
		if err != nil {
			return nil, err
		}
		fy, err := toFloat(intOf(y))
		if err != nil {
			return nil, err
		}
		return floatPower(fx, fy)
	}
	if x.BitLen() > 1 && (!y.IsInt64() || y.Int64() > maxIntBits || int64(x.BitLen())*y.Int64() > maxIntBits) {
		return nil, errIntTooLarge
	}
	if x.BitLen() <= 1 { // 0, 1 and -1: only whether y is 0 or odd matters
		odd := new(big.Int).And(y, big.NewInt(1))
		if y.Sign() != 0 {
			y = odd.Add(odd, big.NewInt(2))
		}
	}
	return intOf(new(big.Int).Exp(x, y, nil)), nil
}

func negate(v Value) (Value, error) {
	if f, ok := v.(floatValue); ok {
		return -f, nil
	}
	if i := asBig(v); i != nil {
		return intOf(new(big.Int).Neg(i)), nil
	}
	return nil, fmt.Errorf("bad operand type for unary -: '%s'", v.typeName())
}

// compareNumbers returns -1, 0 or 1; ordered is false if one is NaN.
func compareNumbers(a, b Value) (order int, ordered bool) {
	if x, ok := asInt(a); ok {
		if y, ok := asInt(b); ok {
			switch {
			case x < y:
				return -1, true
			case x > y:
				return 1, true
			}
			return 0, true
		}
	}
	fa, aFloat := a.(floatValue)
	fb, bFloat := b.(floatValue)
	switch {
	case aFloat && math.IsNaN(float64(fa)), bFloat && math.IsNaN(float64(fb)):
		return 0, false
	case aFloat && math.IsInf(float64(fa), 0), bFloat && math.IsInf(float64(fb), 0), aFloat && bFloat:
		x, y := float64(fa), float64(fb) // an integer counts as 0 beside infinity
		switch {
		case x < y:
			return -1, true
		case x > y:
			return 1, true
		}
		return 0, true
	}
	return exact(a).Cmp(exact(b)), true
}

func exact(v Value) *big.Float {
	if f, ok := v.(floatValue); ok {
		return big.NewFloat(float64(f))
	}
	return new(big.Float).SetPrec(maxIntBits + 64).SetInt(asBig(v))
}
