package jinja

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"
)

// seeds are short templates that between them use every statement and kind of expression.
var seeds = []string{
	"a {{ x }} b", "{% if x %}{% elif y %}{% else %}{% endif %}", "{%- for a, b in x if a recursive -%}{{ loop(b) }}{% else %}{% break %}{%- endfor %}",
	"{% set ns = namespace(a=1) %}{% set ns.a, b = (1, [2]) %}{% set c | upper %}d{% endset %}", "{% macro m(a, b=1) %}{{ caller(*a, **b) }}{% endmacro %}{% call(x) m(1) %}{% endcall %}",
	"{% filter trim|upper %}{% endfilter %}{% with a=1 %}{% endwith %}{% raw %}{{{% endraw %}{# c #}", "{% generation %}{% block b %}{% print 1, 2 %}{% endblock %}{% endgeneration %}",
	"{{ x[1:-1:2].y(1, k=2)|f(3) is not g 4 }}", "{{ not -1 ** 2 // 3 % 4 ~ 'a' in {'k': (1,), 2: []} and 1 < 2 != 3 or none if true else 1.5e3 }}",
	"{{ '%-5.2f %(a)s'|format(x) }}{{ '{0.a[b]!r:>{w}}'.format(x, w=3) }}", "{{ x|map('upper')|select('odd')|batch(2)|join(',')|tojson(indent=2) }}",
	"{{ x|sort(attribute='a.0')|groupby('b')|unique|list }}{{ x|round(2, 'ceil')|int|abs }}", "{{ 's'.split()[0].title().replace('a', 'b')|truncate(3)|indent|wordcount }}",
	"{% for x in range(9) %}{{ loop.cycle(1, 2) }}{% continue %}{% endfor %}{{ strftime_now('%d %b %Y') }}{{ raise_exception(x) }}",
}

// FuzzParse: any text is a template or an *Error inside of it, quickly.
func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		start := time.Now()
		_, err := Parse(src)
		checkError(t, src, err)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// FuzzRender: any template over any JSON renders valid text with spans inside of it, or
// fails with an *Error, within its limits.
func FuzzRender(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, `{"a": [1, 2.5, "x y"], "b": {"c": null, "k": true}}`)
		f.Add(s, `["b", "A", "é你"]`)
		f.Add(s, `-7`)
	}
	f.Fuzz(func(t *testing.T, src, data string) {
		v, err := FromJSON([]byte(data))
		if err != nil {
			return
		}
		tmpl, err := Parse(src)
		if err != nil {
			return
		}
		limits := Limits{Steps: 20_000, Output: 1 << 16, Depth: 16, Time: time.Second}
		start := time.Now()
		got, err := tmpl.Render(map[string]any{"x": v, "y": data}, Options{Limits: limits})
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if err != nil {
			checkError(t, src, err)
			return
		}
		if len(got.Text) > limits.Output || !utf8.ValidString(got.Text) {
			t.Errorf("%d bytes of text, valid: %v", len(got.Text), utf8.ValidString(got.Text))
		}
		for _, s := range got.Generation {
			if s.Start < 0 || s.End < s.Start || s.End > len(got.Text) {
				t.Errorf("span %v of %d bytes", s, len(got.Text))
			}
		}
	})
}

func checkError(t *testing.T, src string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *Error
	if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 || e.Line > len(src)+1 || e.Column > len(src)+2 {
		t.Errorf("error %v, want an *Error inside of the template", err)
	}
}
