package jinja

import "fmt"

// Readers of the arguments of natives. An absent optional argument is nil and reads as the
// default.

// textArg is an argument that has to be a string.
func textArg(v Value) (string, error) {
	s, ok := asStr(v)
	if !ok {
		if u, ok := v.(*undefined); ok {
			return "", undefinedError(u)
		}
		return "", fmt.Errorf("expected str, not %s", v.typeName())
	}
	return s, nil
}

// dictArg is an argument that has to be a mapping.
func dictArg(v Value) (*dictValue, error) {
	d, ok := v.(*dictValue)
	if !ok {
		if u, ok := v.(*undefined); ok {
			return nil, undefinedError(u)
		}
		return nil, fmt.Errorf("'%s' object has no attribute 'items'", v.typeName())
	}
	return d, nil
}

// intArg is an argument that has to be an integer; what is out of range of an int is at its
// end.
func intArg(v Value, otherwise int) (int, error) {
	switch x := v.(type) {
	case nil:
		return otherwise, nil
	case bigValue:
		return x.i.Sign() << 40, nil
	case *undefined:
		return 0, undefinedError(x)
	}
	i, ok := asInt(v)
	if !ok {
		return 0, fmt.Errorf("'%s' object cannot be interpreted as an integer", v.typeName())
	}
	return int(max(-1<<40, min(1<<40, i))), nil
}

// boolArg is an argument of which the truth counts.
func (r *run) boolArg(v Value) (bool, error) {
	if v == nil {
		return false, nil
	}
	return r.truth(v)
}

// noneArg tells whether an optional argument is absent or none.
func noneArg(v Value) bool { return v == nil || v == (none{}) }
