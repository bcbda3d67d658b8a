package jinja

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestErrorPosition: an error names the line and the column, in characters, of what is wrong.
func TestErrorPosition(t *testing.T) {
	for _, c := range []struct {
		src          string
		line, column int
		message      string
	}{
		{"{{ 1 +", 1, 7, "unexpected end of template, expected 'an expression'"},
		{"a\nb {% if %}", 2, 9, "Expected an expression, got 'end of statement block'"},
		{"{% for x in y %}\n{% endif %}", 2, 4, "Encountered unknown tag 'endif'"},
		{"{% if x %}\n", 1, 11, "Unexpected end of template"},
		{"你好 {{ 'é' + 1 }}", 1, 11, `can only concatenate str (not "int") to str`},
		{"{{ x.y }}\r\n\r\n{{ raise_exception('no: ' ~ 5) }}", 3, 19, "no: 5"},
		{"{{ a\n  .b\n  .c() }}", 3, 5, "'c'"},
		{"{% macro m() %}\n{{ 1/0 }}{% endmacro %}\n{{ m() }}", 2, 5, "division by zero"},
		{"{{ '\\x4' }}", 1, 4, "escape"},
		{"{{ 1|nope }}", 1, 6, "No filter named 'nope'."},
		{"{% set x = 1 %}{% set x.y = 1 %}", 1, 23, "non-namespace"},
		{"{{ é ! }}", 1, 6, "unexpected char '!'"},
		{"{% for a, b in [1] %}{% endfor %}", 1, 4, "cannot unpack"},
		{"a\xffb", 1, 2, "UTF-8"},
	} {
		vars := map[string]any{"x": map[string]any{"y": 1}, "a": map[string]any{"b": map[string]any{}}}
		_, err := render(c.src, vars, Options{})
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%q: error %v, want an *Error", c.src, err)
			continue
		}
		if e.Line != c.line || e.Column != c.column || !strings.Contains(e.Message, c.message) {
			t.Errorf("%q: %v, want line %d, column %d: ...%s...", c.src, e, c.line, c.column, c.message)
		}
	}
}

// TestRaiseException: the message of a template's own error is the template's, unchanged.
func TestRaiseException(t *testing.T) {
	_, err := render("{% if true %}{{ raise_exception('Conversation roles must alternate: %s') }}{% endif %}", nil, Options{})
	var e *Error
	if !errors.As(err, &e) || e.Message != "Conversation roles must alternate: %s" {
		t.Errorf("got %v", err)
	}
}

// TestGeneration: spans are ranges of the text, also of what macros wrote.
func TestGeneration(t *testing.T) {
	for src, want := range map[string][]string{
		"{% generation %}a{% endgeneration %}": {"a"},
		"é{% generation %}你{% endgeneration %}b{% generation %}{% endgeneration %}c{% generation %}d{% endgeneration %}":                {"你", "", "d"},
		"{% macro m(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}{{ m('a') }}-{{ m('bc') }}":                          {"a", "bc"},
		"{% macro m(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}{% macro n() %}:{{ m('a') }}{% endmacro %}{{ n() }}": {"a"},
		"{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}x{% generation %}y{% endgeneration %}{% endcall %}":                 {"y"},
		"{% for x in [1, 2] recursive %}{% generation %}{{ x }}{% endgeneration %},{% endfor %}":                                        {"1", "2"},
		"{% set x %}{% generation %}a{% endgeneration %}{% endset %}a{{ x }}":                                                           nil,
		"{% filter upper %}{% generation %}a{% endgeneration %}{% endfilter %}":                                                         nil,
		"{% macro m() %}{% generation %}a{% endgeneration %} {% endmacro %}{{ m()|trim }}":                                              nil,
	} {
		got, err := render(src, nil, Options{})
		if err != nil {
			t.Errorf("%q: %v", src, err)
			continue
		}
		var texts []string
		for _, s := range got.Generation {
			texts = append(texts, got.Text[s.Start:s.End])
		}
		if !slices.Equal(texts, want) {
			t.Errorf("%q: generated %q, want %q", src, texts, want)
		}
	}
}

// TestValues: what Render's callers pass, and how it prints.
func TestValues(t *testing.T) {
	object, err := Object(Member{"z", 1}, Member{"a", []any{nil, true}}, Member{"z", "last"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := FromJSON([]byte(`{"b": 1, "a": [1.0, 1e2, -0, 100000000000000000000, "é\ud83d\ude00", null, true], "b": 2, "c": {}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{nil, "None"},
		{true, "True"},
		{7, "7"},
		{int64(math.MinInt64), "-9223372036854775808"},
		{uint64(math.MaxUint64), "18446744073709551615"},
		{1.0, "1.0"},
		{float32(0.5), "0.5"},
		{math.Inf(-1), "-inf"},
		{"a\xffb", "a\uFFFDb"},
		{[]string{"a", "it's"}, `['a', "it's"]`},
		{[]any{1, []any{}}, "[1, []]"},
		{map[string]any{"b": 1, "a": 2}, "{'a': 2, 'b': 1}"},
		{[]map[string]any{{"role": "user"}}, "[{'role': 'user'}]"},
		{object, "{'z': 'last', 'a': [None, True]}"},
		{parsed, "{'b': 2, 'a': [1.0, 100.0, 0, 100000000000000000000, 'é😀', None, True], 'c': {}}"},
	} {
		got, err := render("{{ v }}", map[string]any{"v": c.value}, Options{})
		if err != nil || got.Text != c.want {
			t.Errorf("%v: %q, %v, want %q", c.value, got.Text, err, c.want)
		}
	}
	if _, err := render("{{ v }}", map[string]any{"v": struct{}{}}, Options{}); err == nil || !strings.Contains(err.Error(), "variable v") {
		t.Errorf("a struct: %v", err)
	}
	if _, err := Object(Member{"k", make(chan int)}); err == nil {
		t.Error("a channel was taken")
	}
	deep := any(nil)
	for range 2 * maxDataDepth {
		deep = []any{deep}
	}
	if _, err := render("{{ v }}", map[string]any{"v": deep}, Options{}); err == nil {
		t.Error("deep data was taken")
	}
}

func TestFromJSONErrors(t *testing.T) {
	for _, data := range []string{"", "[", `{"a"}`, "1 2", "[1,]", "{1: 2}", "nul", `"\x"`, "[1}", "NaN",
		strings.Repeat("[", 10<<20), strings.Repeat(`{"a":`, 1<<20), strings.Repeat("9", 5000)} {
		start := time.Now()
		if v, err := FromJSON([]byte(data)); err == nil {
			t.Errorf("%.20q: %v", data, v)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%.20q took %v", data, took)
		}
	}
}

func TestLimits(t *testing.T) {
	for _, c := range []struct {
		limits Limits
		src    string
		want   string
	}{
		{Limits{Steps: 100}, "{% for i in range(50) %}{{ i }}{% endfor %}", "100 steps"},
		{Limits{Output: 10}, "{{ 'abcdef' }}{{ 'ghijkl' }}", "longer than 10 bytes"},
		{Limits{Output: 10}, "{{ ('abcd' * 20000)|length }}", "more than 65536 bytes"},
		{Limits{Depth: 3}, "{% macro r(n) %}{{ n }}{% if n %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(3) }}", "deeper than 3 calls"},
		{Limits{Time: time.Nanosecond}, "{% for i in range(10000) %}{% endfor %}", "longer than 1ns"},
	} {
		if _, err := render(c.src, nil, Options{Limits: c.limits}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want ...%s...", c.src, err, c.want)
		}
		if _, err := render(c.src, nil, Options{}); err != nil {
			t.Errorf("%q fails with the defaults too: %v", c.src, err)
		}
	}
}

// TestLongConversation: a megabyte of messages through a real template stays far from the
// limits.
func TestLongConversation(t *testing.T) {
	src := "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('no') }}{% endif %}" +
		"{{ '<|start|>' + m['role'] + '\\n' + m['content'] | trim + '<|end|>' }}{% endfor %}"
	var messages []any
	for i := range 1000 {
		messages = append(messages, map[string]any{"role": []string{"user", "assistant"}[i%2], "content": strings.Repeat("lorem é ", 128)})
	}
	got, err := render(src, map[string]any{"messages": messages}, Options{})
	if err != nil || len(got.Text) < 1<<20 {
		t.Fatalf("%d bytes, %v", len(got.Text), err)
	}
	_, err = render(src, map[string]any{"messages": messages}, Options{Limits: Limits{Steps: 100_000}})
	if err != nil {
		t.Errorf("a tenth of the steps is too few: %v", err)
	}
}

// TestConcurrent: one template renders in many goroutines, over shared values.
func TestConcurrent(t *testing.T) {
	tmpl, err := Parse("{% macro m(x) %}{{ x }}{% endmacro %}{% set c = cycler(1, 2) %}{% for k, v in d|dictsort %}{{ k }}{{ m(v) }}{{ c.next() }}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	d := fromJSONText(t, []byte(`{"b": [1], "a": {"x": 2}}`))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				got, err := tmpl.Render(map[string]any{"d": d}, Options{})
				if err != nil || got.Text != "a{'x': 2}1b[1]2" {
					t.Errorf("%q, %v", got.Text, err)
				}
			}
		})
	}
	wg.Wait()
}
