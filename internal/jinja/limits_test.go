package jinja

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// hostile are templates that have to fail: by a limit of the parser or of the run, or
// because the sandbox refuses them.
var hostile = map[string]string{
	"range bomb":              "{{ range(10**9) }}",
	"range in range":          "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
	"empty loops":             "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
	"filtered loops":          "{% for i in range(100000) if false %}{% endfor %}{% for i in range(100000) %}{% for j in range(100000) if false %}{% endfor %}{% endfor %}",
	"doubling":                "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
	"doubling by ~":           "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
	"doubling a list":         "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
	"doubling by join":        "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s]|join(ns.s) %}{% endfor %}",
	"doubling by replace":     "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = ns.s|replace('a', ns.s) %}{% endfor %}",
	"doubling by format":      "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = '%s%s'|format(ns.s, ns.s) %}{% endfor %}",
	"doubling by str.format":  "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
	"doubling by set blocks":  "{% set ns = namespace(s='ab') %}{% for i in range(100) %}{% set x %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = x %}{% endfor %}",
	"doubling by escape":      "{% set ns = namespace(s='&') %}{% for i in range(100) %}{% set ns.s = (ns.s|string)|escape|string %}{% endfor %}{{ 'x' * 10**9 }}",
	"doubling by tojson":      "{% set ns = namespace(s='\"') %}{% for i in range(100) %}{% set ns.s = ns.s|tojson %}{% endfor %}",
	"repeat a string":         "{{ 'a' * 10**9 }}",
	"repeat by a big integer": "{{ 'a' * 10**30 }}",
	"repeat a list":           "{{ [1] * 10**9 }}",
	"hoard strings":           "{% set ns = namespace(l=[]) %}{% for i in range(1000) %}{% set ns.l = ns.l + ['a' * 1000000] %}{% endfor %}",
	"output":                  "{% set s = 'a' * 1000000 %}{% for i in range(1000) %}{{ s }}{% endfor %}",
	"recursive macro":         "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
	"mutual recursion":        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
	"doubling recursion":      "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}",
	"recursive caller":        "{% macro m() %}{{ caller() }}{% endmacro %}{% macro r() %}{% call m() %}{{ r() }}{% endcall %}{% endmacro %}{{ r() }}",
	"recursive default":       "{% macro m(a=m()) %}{% endmacro %}{{ m() }}",
	"recursive loop":          "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
	"map over a macro":        "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = ns.g|map('string') %}{% endfor %}{{ ns.g|list }}",
	"select over select":      "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = ns.g|select %}{% endfor %}{{ ns.g|first }}",
	"unique over unique":      "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = ns.g|unique %}{% endfor %}{{ ns.g|first }}",
	"batch over batch":        "{% set ns = namespace(g=[1]) %}{% for i in range(100000) %}{% set ns.g = ns.g|batch(1) %}{% endfor %}{{ ns.g|first }}",
	"deep list printed":       deepList + "{{ ns.x }}",
	"deep list compared":      deepList + "{% set ns.y = ns.x %}{% set ns.x = [] %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x == ns.y }}",
	"deep list ordered":       deepList + "{% set ns.y = ns.x %}{% set ns.x = [] %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x < ns.y }}",
	"deep list as JSON":       deepList + "{{ ns.x|tojson }}",
	"deep list indented":      deepList + "{{ ns.x|tojson(indent=2) }}",
	"deep tuple as key":       "{% set ns = namespace(x=()) %}{% for i in range(100000) %}{% set ns.x = (ns.x,) %}{% endfor %}{{ {ns.x: 1} }}",
	"wide tuple as key":       "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
	"wide list printed":       wideList + "{{ ns.x }}",
	"wide list compared":      wideList + "{% set ns.y = ns.x %}{% set ns.x = [] %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.y }}",
	"wide list as JSON":       wideList + "{{ ns.x|tojson }}",
	"wide list as text":       wideList + "{{ ns.x|string|length }}",
	"wide list in format":     wideList + "{{ '%s' % ns.x }}{{ '%r'|format(ns.x) }}",
	"namespace in itself":     "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns.a.a.a|tojson }}",
	"width of %d":             "{{ '%1000000000d' % 1 }}",
	"width of %*d":            "{{ '%*d' % (10**9, 1) }}",
	"precision of %d":         "{{ '%.1000000000d' % 1 }}",
	"precision of %f":         "{{ '%.1000000000f' % 1 }}",
	"width of format":         "{{ '{:>1000000000}'.format(1) }}",
	"zeros of format":         "{{ '{:01000000000,}'.format(1) }}",
	"precision of format":     "{{ '{:.1000000000}'.format(1.0) }}",
	"nested format":           "{{ '{:{:{:{}}}}'.format(1, 2, 3, 4) }}",
	"center":                  "{{ 'x'|center(10**9) }}",
	"ljust":                   "{{ 'x'.ljust(10**9) }}",
	"rjust":                   "{{ 'x'.rjust(10**12, '你') }}",
	"zfill":                   "{{ 'x'.zfill(10**9) }}",
	"indent":                  "{{ 'x\\ny'|indent(10**9) }}",
	"indent many":             "{{ ('\\n' * 1000000)|indent(1000, true, true) }}",
	"tojson indent":           "{{ [1]|tojson(indent=10**9) }}",
	"tojson text indent":      "{{ ([[[1]]] * 1000)|tojson(indent='x' * 1000000) }}",
	"batch fill":              "{{ [1]|batch(10**9, 0)|list }}",
	"slice count":             "{{ [1]|slice(10**9)|list }}",
	"power":                   "{{ 2 ** (10**9) }}",
	"tower":                   "{{ 9 ** (9 ** 9) }}",
	"squares":                 "{% set ns = namespace(i=3) %}{% for i in range(100) %}{% set ns.i = ns.i * ns.i %}{% endfor %}",
	"long integer":            "{{ 10 ** 5000 }}",
	"long integer as JSON":    "{{ (10 ** 5000)|tojson }}",
	"long literal":            "{{ " + strings.Repeat("9", 100_000) + " }}",
	"round to nowhere":        "{{ 5|round(-10**9) }}{{ 'x' * 10**9 }}",
	"characters of a text":    "{{ ('a' * 8000000)|list }}",
	"words of a text":         "{{ ('a ' * 4000000).split() }}",
	"parts of a text":         "{{ ('a,' * 4000000).split(',') }}",
	"parts from the right":    "{{ ('a,' * 4000000).rsplit(',') }}",
	"lines of a text":         "{{ ('\\r' * 8000000).splitlines() }}",
	"strip by a text":         "{% set s = 'a' * 1000000 %}{% set c = ('b' * 1000000) ~ 'a' %}{% for i in range(100000) %}{% set x = s.strip(c) %}{% endfor %}",
	"search in a text":        "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{% set x = 'b' in s %}{% endfor %}",
	"count in a text":         "{% set s = 'a' * 4000000 %}{% for i in range(100000) %}{% set x = s.count('a') %}{% endfor %}",
	"length of a text":        "{% set s = '你' * 1000000 %}{% for i in range(100000) %}{% set x = s|length %}{% endfor %}",
	"index in a text":         "{% set s = '你' * 1000000 %}{% for i in range(100000) %}{% set x = s[-1] %}{% endfor %}",
	"case of a text":          "{% set s = 'Σ' * 1000000 %}{% for i in range(100000) %}{% set x = s.lower() %}{% endfor %}",
	"text as key":             "{% set s = 'a' * 4000000 %}{% set d = {s: 1} %}{% for i in range(100000) %}{% set x = d[s] %}{% endfor %}",
	"compare texts":           "{% set s = 'a' * 2000000 %}{% set t = s ~ '' %}{% for i in range(100000) %}{% set x = s == t %}{% endfor %}",
	"long attribute path":     "{{ [1]|map(attribute='a.' * 4000000)|list }}",
	"long sort path":          "{{ [1]|sort(attribute='a,' * 4000000) }}",
	"sort":                    "{{ range(100000)|list|sort|sort|sort|sort }}",
	"many keywords":           "{{ dict(" + manyNames(20_000, "k%d=1,") + ") }}",
	"many parameters":         "{% macro m(" + manyNames(20_000, "k%d,") + ") %}{% endmacro %}",
	"many variables":          "{% macro m() %}" + manyNames(20_000, "{%% set k%d = 1 %%}") + "{{ m() }}{% endmacro %}{{ m() }}",
	"many variables in loops": "{% for i in range(100000) %}{% for j in [1] %}" + manyNames(20_000, "{%% set k%d = 1 %%}") + "{% endfor %}{% endfor %}",
	"strings in one printf":   "{% set s = 'a' * 100000 %}{{ ('%s' * 10000) % ((s,) * 10000) }}",
	"cyclers":                 "{% set c = cycler(1) %}{% for i in range(100000) %}{% for j in range(100000) %}{{ c.next() }}{% endfor %}{% endfor %}",

	"parentheses in {{": "{{ " + strings.Repeat("(", 1_000_000),
	"closed":            "{{ " + strings.Repeat("(", 300_000) + "1" + strings.Repeat(")", 300_000) + " }}",
	"lists":             "{{ " + strings.Repeat("[", 1_000_000),
	"dicts":             "{{ " + strings.Repeat("{1:", 300_000),
	"subscripts":        "{{ " + strings.Repeat("a[", 300_000),
	"calls":             "{{ " + strings.Repeat("a(", 300_000),
	"filters":           "{{ 1" + strings.Repeat("|d(1", 200_000),
	"tests":             "{{ 1" + strings.Repeat(" is eq(1", 100_000),
	"not":               "{{ " + strings.Repeat("not ", 250_000) + "1 }}",
	"minus":             "{{ " + strings.Repeat("-", 1_000_000) + "1 }}",
	"conditions":        "{{ 1" + strings.Repeat(" if 1", 200_000) + " }}",
	"blocks":            strings.Repeat("{% if 1 %}", 100_000),
	"loops":             strings.Repeat("{% for a in b %}", 60_000),
	"macros":            strings.Repeat("{% macro m() %}", 60_000),
	"captures":          strings.Repeat("{% set a %}", 90_000),
	"targets":           "{% set " + strings.Repeat("(", 500_000) + " = 1 %}",
	"raw":               strings.Repeat("{% raw %}", 100_000),
	"comments":          "{# " + strings.Repeat("{#", 500_000),
	"strings":           "{{ " + strings.Repeat("'a", 400_001) + " }}",
	"attributes":        "{{ x" + strings.Repeat(".a", 500_000) + " }}",
	"small filters":     "{{ x" + strings.Repeat("|a", 500_000) + " }}",
	"items":             "{{ [" + strings.Repeat("1,", 500_000) + "] }}",
	"sums":              "{{ 1" + strings.Repeat("+a", 500_000) + " }}",
	"empty prints":      strings.Repeat("{{a}}", 200_000),
	"10 MB of text":     strings.Repeat("lorem ipsum ", 900_000),
	"10 MB of tags":     strings.Repeat("{{ a }}", 1_500_000),
	"10 MB of brackets": strings.Repeat("(", 10_000_000),

	"unknown function":    "{{ open('/etc/passwd') }}",
	"unknown filter":      "{{ 1|exec }}",
	"unknown test":        "{{ 1 is evil }}",
	"unknown tag":         "{% evil %}",
	"include":             "{% include '/etc/passwd' %}",
	"import":              "{% import 'os' as os %}",
	"from":                "{% from 'os' import system %}",
	"extends":             "{% extends '/etc/passwd' %}",
	"autoescape":          "{% autoescape true %}{% endautoescape %}",
	"lipsum":              "{{ lipsum() }}",
	"lipsum's globals":    "{{ lipsum.__globals__['os'].popen('id').read() }}",
	"cycler's globals":    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
	"joiner's globals":    "{{ joiner.__init__.__globals__.os.popen('id').read() }}",
	"namespace's globals": "{{ namespace.__init__.__globals__.os.popen('id').read() }}",
	"subclasses":          "{{ ''.__class__.__mro__[1].__subclasses__() }}",
	"base":                "{{ ().__class__.__base__.__subclasses__() }}",
	"attr filter":         "{{ ''|attr('__class__')|attr('__mro__') }}",
	"attr of attr":        "{{ (''|attr('__class__')).x }}",
	"subscript":           "{{ ''['__class__']['__mro__'] }}",
	"map attribute":       "{{ ['']|map(attribute='__class__.__mro__')|list }}",
	"format attribute":    "{{ '{0.__class__.__mro__}'.format(1) }}",
	"format_map":          "{{ '{a.__class__.x}'.format_map({'a': 1}) }}",
	"self":                "{{ self.__init__.__globals__ }}",
	"request":             "{{ request.application.__globals__ }}",
	"undefined's class":   "{{ nothing.__class__.__init__ }}",
	"macro's function":    "{% macro m() %}{% endmacro %}{{ m._func.x }}",
	"loop's internals":    "{% for x in [1] %}{{ loop._iterator.x }}{% endfor %}",
	"underscore name":     "{% set ns = namespace(_a=1) %}",
	"underscore set":      "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
	"append":              "{{ [].append(1) }}",
	"update":              "{{ {}.update({1: 2}) }}",
	"mutating by name":    "{{ ([]|attr('clear'))() }}",
	"break outside":       "{% break %}",
	"break in a macro":    "{% for i in [1] %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}",
}

const (
	deepList = "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}{% endfor %}"
	wideList = "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
)

func manyNames(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// peakHeap runs f and returns how far the heap grew.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base, peak := m.HeapAlloc, m.HeapAlloc
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
		}
	})
	f()
	close(done)
	wg.Wait()
	return peak - base
}

// TestHostile: every hostile template is an error with a position, in a second and 64 MiB.
func TestHostile(t *testing.T) {
	for name, src := range hostile {
		t.Run(name, func(t *testing.T) {
			var err error
			start := time.Now()
			grown := peakHeap(func() {
				var tmpl *Template
				if tmpl, err = Parse(src); err == nil {
					_, err = tmpl.Render(nil, Options{})
				}
			})
			took := time.Since(start)
			var e *Error
			if !errors.As(err, &e) || e.Line < 1 || e.Column < 1 {
				t.Fatalf("error %v, want an *Error with a position", err)
			}
			if len(e.Message) > 1000 {
				t.Errorf("a message of %d bytes", len(e.Message))
			}
			if took > 1200*time.Millisecond && !raceEnabled {
				t.Errorf("took %v: %v", took, err)
			}
			if grown > 64<<20 {
				t.Errorf("the heap grew by %d MiB: %v", grown>>20, err)
			}
			t.Logf("%v, %d MiB: %v", took.Round(time.Millisecond), grown>>20, err)
		})
	}
}
