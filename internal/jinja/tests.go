package jinja

import (
	"unicode"
)

// tests are those of jinja2/tests.py.
var tests map[string]*native

func init() {
	is := func(name string, f func(v Value) bool) *native {
		return define(name, "value", func(_ *run, a []Value) (Value, error) { return boolValue(f(a[0])), nil })
	}
	compare := func(op string) *native {
		return define(op, "a b /", func(r *run, a []Value) (Value, error) {
			ok, err := r.relation(op, a[0], a[1])
			return boolValue(ok), err
		})
	}
	remainder := func(by, want Value) func(r *run, a []Value) (Value, error) {
		return func(r *run, a []Value) (Value, error) {
			num := by
			if num == nil {
				num = a[1]
			}
			rest, err := r.binary("%", a[0], num)
			if err != nil {
				return nil, err
			}
			eq, err := r.equal(rest, want)
			return boolValue(eq), err
		}
	}
	cased := func(name string, f func(string) bool) *native {
		return define(name, "value", func(r *run, a []Value) (Value, error) {
			s, err := r.str(a[0])
			return boolValue(f(s)), err
		})
	}
	exists := func(name string, all *map[string]*native) *native {
		return define(name, "value", func(_ *run, a []Value) (Value, error) {
			s, ok := asStr(a[0])
			if !ok {
				_, err := hashKey(a[0])
				return boolValue(false), err
			}
			return boolValue((*all)[s] != nil), nil
		})
	}
	tests = map[string]*native{
		"odd":         define("odd", "value", remainder(intValue(2), intValue(1))),
		"even":        define("even", "value", remainder(intValue(2), intValue(0))),
		"divisibleby": define("divisibleby", "value num", remainder(nil, intValue(0))),
		"defined":     is("defined", func(v Value) bool { return !isUndefined(v) }),
		"undefined":   is("undefined", isUndefined),
		"none":        is("none", func(v Value) bool { return v == none{} }),
		"boolean":     is("boolean", func(v Value) bool { _, ok := v.(boolValue); return ok }),
		"true":        is("true", func(v Value) bool { return v == boolValue(true) }),
		"false":       is("false", func(v Value) bool { return v == boolValue(false) }),
		"integer":     is("integer", func(v Value) bool { return v.typeName() == "int" }),
		"float":       is("float", func(v Value) bool { return v.typeName() == "float" }),
		"number":      is("number", isNumber),
		"string":      is("string", func(v Value) bool { _, ok := asStr(v); return ok }),
		"mapping":     is("mapping", func(v Value) bool { return v.typeName() == "dict" }),
		"sequence":    is("sequence", isSequence),
		"iterable":    is("iterable", isIterable),
		"callable":    define("callable", "obj /", func(_ *run, a []Value) (Value, error) { return boolValue(isCallable(a[0])), nil }),
		"escaped":     is("escaped", func(v Value) bool { return v.typeName() == "Markup" }),
		"lower":       cased("lower", isLower),
		"upper":       cased("upper", isUpper),
		"sameas": define("sameas", "value other", func(r *run, a []Value) (Value, error) {
			same, err := r.same(a[0], a[1])
			return boolValue(same), err
		}),
		"in": define("in", "value seq", func(r *run, a []Value) (Value, error) {
			in, err := r.contains(a[1], a[0])
			return boolValue(in), err
		}),
		"filter": exists("filter", &filters),
		"test":   exists("test", &tests),
		"eq":     compare("=="), "ne": compare("!="), "lt": compare("<"),
		"le": compare("<="), "gt": compare(">"), "ge": compare(">="),
	}
	for name, same := range map[string]string{"==": "eq", "equalto": "eq", "!=": "ne", "<": "lt", "lessthan": "lt",
		"<=": "le", ">": "gt", "greaterthan": "gt", ">=": "ge"} {
		tests[name] = tests[same]
	}
}

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

func isSequence(v Value) bool {
	switch v.(type) {
	case strValue, markupValue, *listValue, *tupleValue, *dictValue, *rangeValue, *undefined:
		return true
	}
	return false
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *viewValue, *iterator, *loopValue:
		return true
	}
	return isSequence(v)
}

// isLower and isUpper are str.islower and str.isupper: some cased character, none of the
// other case.
func isLower(s string) bool { return hasCase(s, unicode.Lower, unicode.Other_Lowercase) }

func isUpper(s string) bool { return hasCase(s, unicode.Upper, unicode.Other_Uppercase) }

func hasCase(s string, tables ...*unicode.RangeTable) bool {
	found := false
	for _, c := range s {
		if unicode.In(c, tables...) {
			found = true
		} else if isCased(c) {
			return false
		}
	}
	return found
}
