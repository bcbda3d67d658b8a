"""Writes reference.json: small templates as transformers renders them, value or error.

Made with transformers 5.24.0 and jinja2 3.1.6 on CPython 3.11:
    python reference.py > reference.json
"""

import copy
import datetime
import json
import sys

import transformers.utils.chat_template_utils as utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2026, 7, 5, 9, 8, 7, 123456)


utils.datetime = Clock

VARS = {
    "s": " Héllo Wörld\nsecond <b>\"q\"</b> ", "w": "abc-def ghi", "n": 7, "m": -3, "f": 2.5, "t": True, "no": None,
    "big": 123456789012345678901, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "mix": [1, "a", None, 2.0, [1], {"k": 1}],
    "el": [], "ed": {}, "d": {"b": 1, "a": [1, {"x": None}], "c": True, "items": "it"},
    "dt": [{"n": "x", "v": 2}, {"n": "Y", "v": 1}, {"n": "x", "v": 3}, {"n": "z"}],
    "tree": [{"n": 1, "c": [{"n": 2, "c": []}, {"n": 3, "c": [{"n": 4, "c": []}]}]}],
    "msgs": [{"role": "user", "content": "你好 <x>"}, {"role": "assistant", "content": "好"}, {"role": "user", "content": "a"}],
    "u": "ßΣς ŉ ǆ İı ﬁ 1²½ Ⅷ ΑΣ",
}

# One snippet a line.
SNIPPETS = r"""
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 // -2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 0.0 // -3 }}
{{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 2 ** -1 }} {{ 0.1 ** 7 }} {{ 1e16 ** -2 }} {{ 2 ** 100 }}
{{ 1 / 3 }} {{ 10 / 5 }} {{ big / 3 }} {{ big // 7 }} {{ big % 1000 }} {{ -big // 7 }} {{ big * big }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1.0 % 0 }}
{{ true + true }} {{ -true }} {{ +false }} {{ true * 'ab' }} {{ 3 * 'ab' }} {{ 'ab' * -1 }} {{ [1] * 2 }} {{ 2 * (1, 2) }}
{{ 1 + '1' }}
{{ '1' + 1 }}
{{ [1] + (1,) }}
{{ none + 1 }}
{{ {} + {} }}
{{ 1.0 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-4 }} {{ 1e-5 }} {{ 123456789.123 }} {{ 5e-324 }} {{ 1e400 }} {{ -1e400 }} {{ 0.1 + 0.2 }}
{{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_0.5_0e1_0 }} {{ 00 }}
{{ 'a' 'b' "c" }} {{ 'é\n\t\\\'\"\x41\u4f60\101\q' }}
{{ 'é' ~ 1 ~ none ~ 2.5 ~ true ~ [1] }}
{{ 1 == 1.0 }} {{ true == 1 }} {{ '1' == 1 }} {{ [1, 2.0] == [1.0, 2] }} {{ (1,) == [1] }} {{ {'a': 1, 'b': 2} == {'b': 2, 'a': 1} }} {{ none == false }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 'a') <= (1, 'a') }} {{ 10**20 > 1e19 }} {{ 1 != 1 }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ {} < {} }}
{{ 1 in [1.0] }} {{ 'b' in 'abc' }} {{ '' in 'a' }} {{ 'a' in {'a': 1} }} {{ 2 not in (1, 3) }} {{ 5 in range(9) }} {{ none in [none] }}
{{ 1 in 'abc' }}
{{ 1 in 5 }}
{{ [] in {} }}
{{ 'x' or 'y' }} {{ '' or none }} {{ 0 and 1 }} {{ 1 and 'z' }} {{ not [] }} {{ not undef }}
{{ 'a' if undef else 'b' }} {{ 'a' if 0 }} {{ 1 if 0 else 2 if 0 else 3 }} {{ (1 if 1) + 1 }}
{{ ('a' if false) + 'b' }}
{{ undef }} {{ undef.a is defined }}
{{ d.zz }} {{ d.zz is undefined }} {{ l[9] }} {{ d['zz'] }} {{ n.foo }} {{ [undef] }} {{ undef == nope }} {{ undef|length }} {{ undef|list }}
{{ undef.a }}
{{ undef + 1 }}
{{ undef() }}
{{ undef < 1 }}
{{ -undef }}
{{ undef|int }}
{{ d.items }}{# a method, so its text names an address #}
{{ d['items'] }} {{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 1) }} {{ d.copy() }}
{{ d.keys() }} {{ d.values() }} {{ d.items() }}
{{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {'a': 1, 'a': 2} }} {{ {(1, 2): 3}[(1, 2)] }} {{ {none: 1} }} {{ {2.5: 1}[2.5] }}
{{ {[1]: 2} }}
{{ dict(a=1, b=[2]) }} {{ dict(d, b=9).b }} {{ dict([('x', 1), ['y', 2]]) }} {{ dict.fromkeys([1, 2]) }} {{ {}.fromkeys('ab', 0) }}
{{ dict(1) }}
{{ namespace(undef) }}
{{ d.update({1: 2}) }}
{{ d.setdefault('a') }}
{{ l.append(1) }}
{{ l.sort() }}
{{ l.index(1) }} {{ l.count(3) }} {{ (1, 2, 1).count(1) }} {{ l.copy() }} {{ l[-1] }} {{ l[true] }} {{ l['a'] is defined }} {{ l.0 }}
{{ l.index(9) }}
{{ l[::-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[5:] }} {{ l[-100:2] }} {{ 'héllo'[1:4] }} {{ 'héllo'[::-2] }} {{ 'héllo'[-1] }} {{ (1, 2, 3)[::2] }} {{ range(10)[2:8:3] }} {{ range(5)[-1] }}
{{ l[::0] }}
{{ l['a':] }}
{{ n[1:] }}
{{ ''.__class__ }}|{{ ''.__class__ is defined }}
{{ ''.__class__.__mro__ }}
{{ s.__len__() }}
{{ undef.__class__ }}|{{ (1).real }} {{ (2.5).is_integer() }} {{ (4.0).is_integer() }} {{ n.bit_length() }}
{{ s.upper() }}|{{ s.lower() }}|{{ s.title() }}|{{ s.capitalize() }}|{{ s.swapcase() }}|{{ s.strip() }}|{{ s|title }}|{{ s|capitalize }}
{{ u.upper() }}|{{ u.lower() }}|{{ u.title() }}|{{ u.capitalize() }}|{{ u.swapcase() }}|{{ u.casefold() }}|{{ u|title }}
{{ 'xxaxx'.strip('x') }} {{ 'xyaxy'.lstrip('yx') }} {{ 'xyaxy'.rstrip('yx') }} {{ ' \u3000a\x1f '.strip() }}|{{ 'a'.strip(none) }}
{{ 'abc'.strip(1) }}
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ 'abc'.split('b', maxsplit=0) }} {{ ''.split() }} {{ ''.split(',') }}
{{ 'a'.split('') }}
{{ 'a\nb\r\nc\x0bd\u2028e'.splitlines() }} {{ 'a\n\nb\n'.splitlines(true) }}
{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('-') }} {{ 'abc'.rpartition('-') }}
{{ 'abc'.startswith(('x', 'a')) }} {{ 'abc'.endswith('bc', 1) }} {{ 'abc'.startswith('') }} {{ 'abc'.startswith('', 4) }} {{ 'abc'.endswith('b', 0, -1) }}
{{ 'abc'.startswith(['a']) }}
{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'héé'.find('é', -1) }} {{ 'abc'.find('z') }} {{ 'abc'.index('b') }} {{ 'aaa'.count('a', 1) }} {{ 'aaa'.count('') }} {{ 'abc'.find('', 9) }}
{{ 'abc'.index('z') }}
{{ 'abcb'.replace('b', 'X') }} {{ 'abcb'.replace('b', '', 1) }} {{ 'héy'.replace('', '-') }} {{ 'abc'.removeprefix('ab') }} {{ 'abc'.removesuffix('x') }}
{{ 'a'.replace(1, 2) }}
{{ ', '.join(['a', 'b']) }} {{ ''.join('héy') }}
{{ ','.join([1]) }}
{{ '7'.zfill(3) }} {{ '-7'.zfill(4) }} {{ 'ab'.center(5, '*') }} {{ 'abc'.center(6) }}| {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '.') }}
{{ '12'.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ 'é你'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' \t'.isspace() }} {{ ''.isspace() }} {{ 'Ab C'.istitle() }} {{ 'aB'.islower() }} {{ 'A1'.isupper() }} {{ 'é'.isascii() }} {{ 'a\n'.isprintable() }} {{ 'a_1'.isidentifier() }}
{{ '{} {}'.format('a', 1) }} {{ '{1}{0}'.format(1, 2) }} {{ '{a.b[0]}'.format(a={'b': [5]}) }} {{ '{!r:>6}|{:<4}|{:^5}|{:*>3}'.format('a', 1, 2, 3) }} {{ '{{}}'.format() }} {{ '{:{}}'.format('a', 3) }}|
{{ '{:,} {:_} {:+} {:x} {:#b} {:05} {:e} {:.2f} {:%} {:g} {:.3} {:08.2f}'.format(1234567, 1234567, 5, 255, 5, 42, 1234.5, 3.14159, 0.25, 1e10, 2.0, -3.14159) }}
{{ '{0.__class__.__name__}'.format(1) }}
{{ '{} {0}'.format(1) }}
{{ '{'.format(1) }}
{{ '{a}'.format_map({'a': 3}) }}
{{ '%s %d %5.2f %-4s| %05d %x %r %c %% %+d %e %g %(a)s' % ('a', 1, 2.345, 'b', 42, 255, 'q', 'z', 3, 12345.678, 1e-5) }}
{{ '%s %d %5.2f %-4s| %05d %x %r %c %% %+d %e %g' % ('a', 1, 2.345, 'b', 42, 255, 'q', 'z', 3, 12345.678, 1e-5) }}
{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }} {{ '%s' % [1] }} {{ '%*d|%.*f' % (4, 1, 2, 3.14159) }} {{ '%s'|format('x') }} {{ '%(a)s'|format(a=1) }}
{{ '%s' % (1, 2) }}
{{ '%d' % 'a' }}
{{ '%s %s' % 'a' }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ ls|sort }} {{ ls|sort(case_sensitive=true) }} {{ dt|sort(attribute='n')|map(attribute='v')|list }} {{ dt[:3]|sort(attribute='n,v')|map(attribute='v')|list }}
{{ mix|sort }}
{{ dt|sort(attribute='v') }}
{{ l|first }} {{ l|last }} {{ el|first }} {{ 'abc'|last }} {{ d|first }} {{ l|reverse|list }} {{ 'abc'|reverse }} {{ l|length }} {{ l|count }} {{ l|sum }} {{ l|min }} {{ l|max }} {{ el|max }} {{ dt[:3]|sum(attribute='v') }} {{ [[1], [2]]|sum(start=[]) }} {{ dt[:3]|max(attribute='v') }}
{{ (l|map('string'))|length }}
{{ (l|map('string'))|last }}
{{ 5|length }}
{{ ['a', 'b']|sum }}
{{ l|join }} {{ l|join(', ') }} {{ dt|join('/', attribute='n') }} {{ 'abc'|join('-') }} {{ d|join }} {{ [none, 1.0, true]|join(1) }}
{{ [1, 2, 2, 'a', 'A']|unique|list }} {{ [1, 'a', 'A']|unique(true)|list }} {{ dt|unique(attribute='n')|map(attribute='v')|list }}
{{ l|map('string')|list }} {{ dt|map(attribute='v', default=0)|list }} {{ [[1, 2], [3]]|map('first')|list }} {{ ['a b']|map('replace', ' ', '_')|first }} {{ [d]|map(attribute='a.0')|list }}
{{ l|map('nofilter')|list }}
{{ l|map|list }}
{{ range(6)|select('odd')|list }} {{ range(6)|reject('odd')|list }} {{ [0, 1, '']|select|list }} {{ dt|selectattr('v')|list|length }} {{ dt|selectattr('n', 'equalto', 'x')|map(attribute='v')|list }} {{ dt|rejectattr('v', 'defined')|list }} {{ l|select('in', [1, 2])|list }} {{ [1, 2]|select('gt', 1)|list }}
{{ l|select('notest')|list }}
{{ [1, 2, 3]|batch(2)|list }} {{ [1, 2, 3]|batch(2, 0)|list }} {{ range(7)|slice(3)|list }} {{ range(7)|slice(3, 'x')|list }}
{{ dt|groupby('n') }} {% for k, g in dt[:3]|groupby('n') %}{{ k }}:{{ g|length }};{% endfor %} {{ (dt|groupby('n'))[0].grouper }} {{ dt|groupby('v', default=0)|map(attribute='0')|list }}
{{ d|dictsort }} {{ {'B': 1, 'a': 2}|dictsort }} {{ {'B': 1, 'a': 2}|dictsort(true) }} {{ {'B': 1, 'a': 2}|dictsort(by='value', reverse=true) }}
{{ {'a': 1}|items|list }} {{ undef|items|list }}
{{ 5|items|list }}
{{ '3'|int }} {{ ' 42 '|int }} {{ '3.7'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 2.9|int }} {{ '0x1f'|int(0, 16) }} {{ '101'|int(base=2) }} {{ none|int }} {{ true|int }} {{ '1_000'|int }} {{ '१२'|int }} {{ [1]|int(7) }}
{{ '3.5'|float }} {{ 'x'|float }} {{ '1e3'|float }} {{ 'inf'|float }} {{ '١٫٥'|float(2) }} {{ 3|float }} {{ none|float(1.5) }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 1234.5|round(-2) }} {{ 7|round }} {{ 15|round(-1) }} {{ 25|round(-1) }} {{ 2.1|round(0, 'ceil') }} {{ 2.19|round(1, 'floor') }} {{ -0.4|round }} {{ 1e300|round(5) }}
{{ 1|round(0, 'up') }}
{{ -3|abs }} {{ (-3)|abs }} {{ (-2.5)|abs }}
{{ 'a'|abs }}
{{ undef|default('q') }} {{ none|default('q') }} {{ none|default('q', true) }} {{ ''|d('z', boolean=true) }} {{ d.zz|d }}| {{ 0|default(1) }}
{{ s|trim }}|{{ 'xax'|trim('x') }}|{{ 5|string + '!' }}|{{ 1|upper }}|{{ none|lower }}
{{ 'aXbX'|replace('X', '-') }} {{ 'aXbX'|replace('X', '-', 1) }} {{ 5|replace(5, 6) }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}|{{ 'a\nb'|indent('> ') }}|{{ ''|indent(first=true) }}|{{ 'a\n'|indent }}|
{{ 'foo bar baz qux'|truncate(9) }} {{ 'foo bar baz qux'|truncate(9, true) }} {{ 'foo bar baz qux'|truncate(11) }} {{ 'foo bar baz qux'|truncate(11, false, '...', 0) }}
{{ 'abc'|truncate(2) }}
{{ 'a b-c é你_1'|wordcount }} {{ 'foo'|center(9) }}| {{ '<p>a <b>b</b><!-- c --> &amp; d</p>'|striptags }} {{ 'a b/ü&'|urlencode }} {{ {'a b': 1, 'c': 'é'}|urlencode }} {{ {'class': 'a"b', 'x': none}|xmlattr }} {{ 1000000|filesizeformat }} {{ 1024|filesizeformat(true) }} {{ 1|filesizeformat }}
{{ '<b>'|e }} {{ '<b>'|e|e }} {{ '<b>'|e|string }} {{ '<b>'|forceescape }} {{ '<b>'|e + '<i>' }} {{ '<i>' + '<b>'|e }} {{ ('<b>'|safe) ~ '<i>' }} {{ ['<b>'|e] }} {{ '%s'|e % '<' }} {{ ('<'|e).upper() }} {{ '<'|e is escaped }} {{ '{}'|e ~ 1 }}
{{ d|tojson }} {{ d|tojson(indent=2) }} {{ mix|tojson(indent=0) }} {{ [1, [2]]|tojson(indent='--') }} {{ d|tojson(separators=(',', ':')) }} {{ d|tojson(sort_keys=true) }} {{ 'é你😀\x7f\u2028</'|tojson }} {{ 'é你😀\x7f'|tojson(ensure_ascii=true) }} {{ {1: 2, none: 3, true: 4, 2.5: 5}|tojson }} {{ '\x01\b\f"\\'|tojson }} {{ (1e400, -1e400, 1e16)|tojson }} {{ []|tojson(indent=4) }} {{ (1,)|tojson }} {{ big|tojson }}
{{ undef|tojson }}
{{ namespace()|tojson }}
{{ {(1,): 2}|tojson }}
{{ (l|map('string'))|tojson }}
{{ 1|tojson(2, 3, 4, 5, 6) }}
{{ d.keys() == {'b': 1, 'a': 2, 'c': 3, 'items': 4}.keys() }} {{ d.items() == d.items() }} {{ d.keys() == d.values() }} {{ 'b' in d.keys() }} {{ 1 in d.values() }} {{ ('b', 1) in d.items() }}
{{ [('a', 1), ('b c', 'é')]|urlencode }} {{ 5|urlencode }} {{ none|urlencode }} {{ {}|urlencode }}
{{ [1]|urlencode }}
{{ '%c%c' % (65, 0x4f60) }} {{ '%a' % 'é你😀' }} {{ '%5c|%-3c|' % ('a', 'b') }} {{ '%(a)s %(a)5.1f' % {'a': 2.25} }} {{ '%s'|e % '<'|e }} {{ '%r'|e % '<' }}
{{ '%c' % -1 }}
{{ range(3) is callable }} {{ m is callable }} {{ s.upper is callable }} {{ 2|e is escaped }} {{ 1 is sameas 1.0 }} {{ [] is sameas [] }} {{ l is sameas l }}
{{ {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 10: 10, 1.0: 'x'} }} {{ dict({1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9}, a=0)[9] }} {{ {1e300: 1}[10**300] is defined }} {{ {range(3): 1}[range(3)] }}
{% for a, (b, c) in [[1, [2, 3]], [0, [5, 6]]] if a and (b or c) %}{{ a }}{{ b }}{{ c }}{% endfor %}
{{ 1 is foo.bar }}
{{ 1|foo.bar }}
{{ '\é\你\😀' }} {{ '\u00e9' }} {{ '\xe9' }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ 1 is defined }} {{ none is none }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ true is boolean }} {{ 1.0 is float }} {{ 1 is integer }} {{ 'a' is string }} {{ {} is mapping }} {{ [] is sequence }} {{ {} is sequence }} {{ 'a' is iterable }} {{ 5 is iterable }} {{ undef is iterable }} {{ (l|map('string')) is iterable }} {{ (l|map('string')) is sequence }}
{{ 'a' is lower }} {{ 'A' is upper }} {{ 1 is true }} {{ true is true }} {{ false is false }} {{ 1 is sameas 1 }} {{ none is sameas none }} {{ 1 is sameas true }} {{ 'a' is in 'abc' }} {{ 1 is in [1] }} {{ 1 is eq 1 }} {{ 1 is ne 2 }} {{ 1 is lt 2 }} {{ 2 is ge 2 }} {{ 1 is not lessthan 0 }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ 'zz' is filter }} {{ range is callable }} {{ 1 is callable }}
{{ 'a' is odd }}
{{ 1 is zz }}
{{ not 1 is odd and 2 is even }} {{ (1 is odd) is true }} {{ 'a' is string and n is number or false }}
{{ range(3)|list }} {{ range(1, 10, 3)|list }} {{ range(3, 0, -1)|list }} {{ range(0)|list }} {{ range(3) }} {{ range(1, 9, 2) }} {{ range(5).stop }} {{ range(3) == range(0, 3) }}
{{ range(100001) }}
{{ range(1, 2, 0) }}
{{ range('a') }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}
{% for x in l|map('string') %}{{ loop.length }}{{ loop.last }}{{ loop.nextitem }} {% endfor %}
{% for x in range(5) if x is odd %}{{ loop.index }}/{{ loop.length }}={{ x }} {% else %}none{% endfor %}{% for x in el %}{% else %}none{% endfor %}
{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }} {% endfor %}{% for x in [1] %}{{ loop }}{% endfor %}
{% for i in tree recursive %}{{ i.n }}@{{ loop.depth0 }}{% if i.c %}({{ loop(i.c) }}){% endif %}{% if not loop.last %},{% endif %}{% endfor %}
{% for i in l %}{{ loop([1]) }}{% endfor %}
{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1] %}{% break %}{% else %}E{% endfor %}|{% for x in [1] %}{{ x }}{% else %}E{% endfor %}|{% for x in [1, 2] %}{% if x == 2 %}{% continue %}{% endif %}{% else %}E{% endfor %}
{% for x in [1, 2] %}{% set y %}{{ x }}{% break %}{% endset %}{% endfor %}[{{ y }}]
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for a, (b, c) in [[1, [2, 3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}{% for (a, b) in ['xy'] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [[1]] %}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for loop in l %}{% endfor %}
{% for x in l %}{% set loop = 1 %}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% for i in l %}{{ n }}{% endfor %}{% set n = 1 %}{{ n }}
{% for i in l %}{{ n }}{% set n = i %}{{ n }} {% endfor %}
{% if false %}{% set n = 1 %}{% endif %}{{ n }}{% if true %}{% set q = 5 %}{% endif %}{{ q }}
{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = [3, 4] %}{{ c }}{{ d2 }}{% set t = 1, %}{{ t }}
{% set a, b = 1 %}
{% set none = 1 %}
{% set 1 = 1 %}
{% set ns = namespace(a=1) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.b = i %}{% endfor %}{{ ns.a }}{{ ns.b }} {{ ns }} {{ ns.zz is defined }} {{ namespace({'x': 1}, y=2) }}
{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}
{% set x = 1 %}{% set x.y = 2 %}
{% set ns = namespace(_a=1) %}
{% set ns = namespace() %}{% set ns._a = 1 %}
{% set x %} a {{ n }} {% endset %}[{{ x }}]{% set y | upper | trim %} b {% endset %}[{{ y }}]{% set z | length %}abc{% endset %}{{ z + 1 }}
{% macro m(a, b=2, c='x') %}{{ a }}-{{ b }}-{{ c }} {% endmacro %}{{ m(1) }}{{ m(1, c='z') }}{{ m(1, 2, 3) }}{{ m() }}{{ m(b=1, a=0) }}{{ m.name }} {{ m.arguments }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }}
{% macro m(a, b=a, c=undef) %}{{ a }}{{ b }}{{ c is defined }}{% endmacro %}{{ m(3) }}
{% macro m(a=1, b) %}{% endmacro %}
{% macro r(x) %}{{ x }}{% if x > 0 %}{{ r(x - 1) }}{% endif %}{% endmacro %}{{ r(3) }}
{% macro outer() %}{% macro inner() %}{{ n }}{% endmacro %}{{ inner() }}{% set n = 1 %}{{ inner() }}{% endmacro %}{{ outer() }}
{% macro m(a) %}[{{ caller(a, 2) }}{{ a }}]{% endmacro %}{% call(x, y=5) m(1) %}{{ x }}{{ y }}{{ n }}{% endcall %}
{% macro m() %}{{ caller is defined }}{{ caller }}{% endmacro %}{{ m() }}|{% call m() %}c{% endcall %}
{% macro m() %}{% endmacro %}{% call m() %}c{% endcall %}
{% call n %}{% endcall %}
{{ m(*[1, 2], **{'c': 3}) }}{% macro m(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}
{% macro m(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2], **{'c': 3}) }} {{ m(1, c=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(a=1, a=2) }}
{% filter upper %}ab{{ n }}{% endfilter %}{% filter replace('a', 'b')|title %}a a{% endfilter %}
{% filter length %}abc{% endfilter %}
{% with a=1, b=2 %}{{ a }}{{ b }}{% set n = 3 %}{{ n }}{% endwith %}{{ a }}{{ n }}{% with n = n + 1 %}{{ n }}{% endwith %}
{% block b %}in {{ n }}{% endblock %}{% set n = 1 %}{% block c %}{{ n }}{% endblock c %}
{% block b %}{% endblock %}{% block b %}{% endblock %}
{% raw %}{{ x }}{% if %}{% endraw %}|{%- raw -%} a {%- endraw -%} |
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }} {% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}
{{ cycler() }}
{{ raise_exception('boom ' ~ n) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %d %B %Y %b %a %A %j %p %I %y %% %-d %-m %e %F %T %f %U %W %w %z|%Z|%q') }}
{% generation %}x{{ n }}{% set n = 1 %}{% endgeneration %}{{ n }}
{% for m in msgs %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}
é{% generation %}{% endgeneration %}{% for i in l %}{% generation %}你{{ i }}{% endgeneration %}, {% endfor %}
{% for i in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% if n > 3 and n < 10 or false %}A{% elif n %}B{% else %}C{% endif %}{% if el %}x{% elif ed %}y{% else %}z{% endif %}{% if 1, %}t{% endif %}
a {%- if true -%}   b   {%- endif -%}  c  {{- ' d ' -}}  e
<{% if true %}   {% endif %}>
{{ '{{' }} {{ '%}' }} {{ {'a': {}} }} {% set x = {'a': {'b': 1}} %}{{ x.a.b }}
{{ [1, 2,] }} {{ (1,) }} {{ () }} {{ {'a': 1,} }} {{ (1) }} {{ 1, 2 }}
{{ x
{{ 1 2 }}
{{ (1 }}
{{ 1 ) }}
{{ [1}] }}
{{ 'a }}
{{ a! }}
{% if %}
{% for x in l %}
{% endfor %}
{% if n %}{% endfor %}
{% else %}
{% foo %}
{% do l.append(1) %}
{# open
{% raw %} open
{% include 'x' %}
{% extends 'x' %}
{% print n, 'a' %}{% print %}
{{ 'a'|nofilter }}
{% if false %}{{ 'a'|nofilter }}{% endif %}ok {{ 1 if true else 'a'|nofilter }}
{% if false %}{% for i in l %}{{ i|nofilter }}{% endfor %}{% endif %}
{{ l|map(attribute='x')|map('upper')|list }}
{{ n.__class__.__base__.__subclasses__() }}
{{ ''|attr('__class__')|attr('x') }}
{{ d|attr('b') is defined }} {{ s|attr('upper') is callable }}
{{ cycler.__init__.__globals__ }}
{{ lipsum is defined }} {{ request is defined }} {{ open is defined }}
"""


# Formatting: every spec with every value.
SPECS = [
    "", "5", "<5", "^9", "*^9", "é>6", "08", "=+8", "+", " ", "d", "5d", "x", "#X", "o", "#b", "c", "n", ",", "_", "010,", "_x",
    ".0f", ".2f", "+.1f", "08.3f", "#.0f", ",.2f", "e", ".3E", "g", ".3g", "#.3g", "G", "%", ".1%", ".1", ".3", "s", ".2s", "10.3", "q", ">",
]
CONVERSIONS = [
    "%s", "%5s|", "%-5s|", "%.2s", "%r", "%a", "%c", "%d", "%5d", "%-5d|", "%05d", "%+d", "% d", "%.3d", "%i", "%u", "%x", "%#x", "%X", "%o",
    "%#o", "%e", "%+.1e", "%.2f", "%08.2f", "%.0f", "%#.0f", "%F", "%g", "%.3g", "%#g", "%G", "%ld", "%y", "%5%", "%%", "%",
]
NUMBERS = ["0", "-7", "255", "1234567", "123456789012345678901", "true", "2.5", "-0.0", "1234567.891", "-0.0001234", "1e20", "('inf' ~ w[:0])|float", "99.95"]
FORMATS = [f"{{{{ '{{:{s}}}'.format({v}) }}}}" for s in SPECS for v in NUMBERS + ["'é你x'", "none"]]
FORMATS += [f"{{{{ '{c}' % ({v},) }}}}" for c in CONVERSIONS for v in NUMBERS + ["'é你x'", "'é'", "[1]"]]
FORMATS += [
    f"{{{{ {v} | {f} }}}}" for v in NUMBERS + ["'1e3'", "none", "undef"]
    for f in ("round", "round(1)", "round(-2)", "round(1, 'ceil')", "int", "float", "abs", "string", "tojson", "filesizeformat", "filesizeformat(true)")
]
FORMATS += [f"{{{{ {a} {op} {b} }}}}" for a in NUMBERS for op in ("+", "*", "/", "//", "%", "<", "==") for b in ("3", "-0.5", "1e20", "100000000000000000000", "true")]
FORMATS += [f"{{{{ strftime_now('%{flag}{c}') }}}}" for flag in ("", "-", "_", "0", "^", "#") for c in "aAbBcCdDeFgGHhIjklmMnpPrRSTtuUVwWxXyYq%"]

# What spans lines: white space control and line ends.
MULTILINE = [
    "{{ 'a\\\nb' }}", "a\r\n{% if true %}\r\nb\rc{% endif %}\r\n", "a\n\n", "", "\n", "{{ '\\r\\n' }}|{{ 'a\r\nb' }}",
    "{% raw %}\n  {{ x }}\n  {% endraw %}\nx",
    "    {% if true %}\n  x\n    {% endif %}\n  y {# c #} z\n    {# line #}\nend\n  {%+ if true %}keep{% endif +%}\ntail",
    "{{ 1 }}\n{{ 2 }}  \n  {{ 3 }}", "{%- set x = 1 %}\n\n{%- for i in l %}\n    {{- i }}\n    \n{%- endfor %}\n",
    "  {%- if true +%}\n  a\n  {%+ endif %}\nb", "{# a\nb #}\nc {#- d -#} e", "a\n\t {%- if true -%}\n\n b \n{%- endif %}\n\nc",
    "x\n  {{ n }}\n  {% set a = 1 %}  \n  {% set b = 2 -%}  \n  y", "  {#- a +#}\n  {#+ b -#}\n  c", "a {%+ raw +%} b {%- endraw +%}\nc",
]


def render(source):
    case = {"source": source}
    try:
        template = utils._cached_compile_jinja_template(source)
        case["text"] = template.render(**copy.deepcopy(VARS))
        if "{% generation" in source:
            args = copy.deepcopy(VARS)
            text, spans = utils._render_with_assistant_indices(template, [], None, None, False, **args)
            assert text == case["text"]
            case["generation"] = [[len(text[:start].encode()), len(text[:end].encode())] for start, end in spans]
    except Exception as e:
        case["error"] = f"{type(e).__name__}: {e}"
    return case


if __name__ == "__main__":
    cases = [render(s) for s in SNIPPETS.strip("\n").split("\n") + MULTILINE + FORMATS]
    cases = [c for c in cases if " at 0x" not in c.get("text", "")]
    json.dump({"vars": VARS, "cases": cases}, sys.stdout, ensure_ascii=False, indent=1)
    print()
