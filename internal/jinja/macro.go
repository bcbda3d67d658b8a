package jinja

import "fmt"

// macroValue is a macro, the caller of a call block or the body of a generation block, with
// the frame that it was defined in.
type macroValue struct {
	def   *macroDef
	outer *frame
}

func (*macroValue) typeName() string { return "Macro" }

func (m *macroValue) attribute(name string) Value {
	switch name {
	case "name":
		if m.def.name == "" {
			return none{}
		}
		return strValue(m.def.name)
	case "arguments":
		t := &tupleValue{}
		for _, p := range m.def.params {
			t.items = append(t.items, strValue(p.name))
		}
		return t
	case "caller":
		return boolValue(m.def.usesCaller)
	case "catch_kwargs":
		return boolValue(m.def.usesKw)
	case "catch_varargs":
		return boolValue(m.def.usesVarargs)
	}
	return nil
}

// call runs the macro and returns its text. Arguments bind as in jinja2/runtime.py's Macro.
func (m *macroValue) call(r *run, args []Value, kw []keyword) (string, error) {
	if err := r.call(); err != nil {
		return "", err
	}
	defer r.leave()
	d := m.def
	f, err := r.newFrame(d.scope, m.outer)
	if err != nil {
		return "", err
	}
	if err := m.bind(f, args, kw); err != nil {
		return "", err
	}
	return r.capture(func() error {
		if err := r.enterFrame(d.scope, f); err != nil {
			return err
		}
		for i, p := range d.params {
			slot := f.at(p.ref)
			if *slot != nil {
				continue
			}
			if k := i - (len(d.params) - len(d.defaults)); k >= 0 {
				v, err := d.defaults[k].eval(r, f)
				if err != nil {
					return err
				}
				*slot = v
			} else {
				*slot = &undefined{hint: fmt.Sprintf("parameter '%s' was not provided", p.name), name: strValue(p.name)}
			}
		}
		_, err := r.exec(d.body, f)
		return err
	})
}

func (m *macroValue) bind(f *frame, args []Value, kw []keyword) error {
	d := m.def
	kw = append([]keyword(nil), kw...)
	pop := func(name string) Value {
		for i, k := range kw {
			if k.name == name {
				kw = append(kw[:i], kw[i+1:]...)
				return k.value
			}
		}
		return nil
	}
	for i, p := range d.params {
		if i < len(args) {
			*f.at(p.ref) = args[i]
		} else {
			*f.at(p.ref) = pop(p.name)
		}
	}
	if d.usesCaller {
		caller := pop("caller")
		if caller == nil || caller == (none{}) {
			caller = &undefined{hint: "No caller defined", name: strValue("caller")}
		}
		*f.at(d.caller) = caller
	}
	if d.usesKw {
		rest := &dictValue{}
		for _, k := range kw {
			if err := rest.set(strValue(k.name), k.value); err != nil {
				return err
			}
		}
		*f.at(d.kwargs) = rest
	} else if len(kw) > 0 {
		if pop("caller") != nil {
			return fmt.Errorf("macro '%s' was invoked with two values for the special caller argument. This is most likely a bug.", d.name)
		}
		return fmt.Errorf("macro '%s' takes no keyword argument '%s'", d.name, kw[0].name)
	}
	switch extra := args[min(len(args), len(d.params)):]; {
	case d.usesVarargs:
		*f.at(d.varargs) = &tupleValue{items: extra}
	case len(extra) > 0:
		return fmt.Errorf("macro '%s' takes not more than %d argument(s)", d.name, len(d.params))
	}
	return nil
}
