"""What make_template_oracle.py asks jinja2: variables, expressions, statements and whole chat templates, all written for this test."""

VARIABLES = {
    "s": "Hello, World", "e": "", "u": "naïve ß 日本 👍", "ws": "  a\tb\n ", "html": "<b>&'\"</b>", "lines": "one\ntwo\r\nthree\n\nfive",
    "n": 42, "z": 0, "neg": -7, "f": 3.5, "big": 1e20, "small": 1e-7, "t": True, "fl": False, "no": None,
    "l": [3, 1, 2], "le": [], "ls": ["b", "A", "c"], "lm": [1, "a", None, 2.5, True], "ll": [[1, 2], [3]],
    "d": {"b": 1, "a": [1, 2], "items": "shadow", "c": {"x": "y"}}, "de": {},
    "dl": [{"role": "user", "content": "hi", "n": 2}, {"role": "assistant", "content": None, "n": 1}, {"role": "user"}],
    "deep": {"k": {"z": [{"q": "deep"}]}}, "quote": "it's \"q\" \\ \u0001\u200b", "num": "12", "numf": "3.75", "name": "ada lovelace-king",
}

ARGUMENTS = ["1", "2", "-1", "0", "'a'", "','", "' '", "'role'", "'content'", "'l'", "none", "true", "'x'", "3", "10", "['a', 'b']", "'n'",
             "default='?'", "attribute='role'", "attribute='n'", "reverse=true", "indent=2", "sort_keys=true", "'%s'", "'user'", "'upper'"]

# Name and the numbers of arguments that are worth a try.
FILTERS = [(n, (0,)) for n in ("upper", "lower", "capitalize", "title", "length", "count", "first", "last", "list", "string", "abs", "reverse|list",
                               "items|list", "escape", "e", "safe", "wordcount", "striptags", "forceescape", "float", "int", "round", "tojson",
                               "trim", "unique|list", "sort", "dictsort", "sum", "min", "max", "join", "indent", "urlencode", "filesizeformat")]
FILTERS += [("join", (1, 2)), ("replace", (2, 3)), ("default", (1, 2)), ("d", (1,)), ("trim", (1,)), ("indent", (1, 2, 3)), ("tojson", (1,)),
            ("int", (1, 2)), ("float", (1,)), ("round", (1,)), ("sort", (1,)), ("dictsort", (1, 2)), ("sum", (1,)), ("batch", (1, 2)),
            ("slice", (1, 2)), ("map", (1, 2)), ("select", (1, 2)), ("reject", (1, 2)), ("selectattr", (1, 2, 3)), ("rejectattr", (1, 2, 3)),
            ("groupby", (1,)), ("truncate", (1, 2)), ("center", (1,)), ("format", (1, 2)), ("attr", (1,)), ("unique", (1,)), ("min", (1,)),
            ("map(attribute='role')|list", (0,)), ("map('upper')|join", (0,)), ("selectattr('role', 'equalto', 'user')|list", (0,)),
            ("select('string')|list", (0,)), ("reject('none')|list", (0,)), ("map('tojson')|join(' ')", (0,)), ("batch(2)|list", (0,)),
            ("slice(2)|list", (0,)), ("groupby('role')", (0,)), ("map(attribute='n', default=0)|sum", (0,))]
TESTS = [(n, (0,)) for n in ("defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping", "sequence",
                             "iterable", "callable", "lower", "upper", "odd", "even", "escaped")]
TESTS += [(n, (1,)) for n in ("eq", "equalto", "ne", "lt", "le", "gt", "ge", "in", "divisibleby", "sameas", "greaterthan", "lessthan")]
METHODS = [(n, (0,)) for n in ("upper", "lower", "strip", "lstrip", "rstrip", "split", "splitlines", "title", "capitalize", "swapcase", "casefold",
                               "isdigit", "isalpha", "isalnum", "isspace", "islower", "isupper", "istitle", "isnumeric", "isdecimal", "isascii",
                               "isprintable", "items", "keys", "values", "copy", "append", "pop", "update", "clear", "sort")]
METHODS += [(n, (1, 2)) for n in ("startswith", "endswith", "split", "rsplit", "strip", "lstrip", "rstrip", "find", "rfind", "index", "count", "get",
                                  "partition", "rpartition", "removeprefix", "removesuffix", "join", "center", "ljust", "rjust", "zfill", "format",
                                  "splitlines", "append")] + [("replace", (2, 3))]

EXPRESSIONS = r"""
1 + 2 * 3 ** 2 - 4 // 3 % 2
2 ** 3 ** 2
-2 ** 2
7 // -2, -7 // 2, 7 % -3, -7 % 3, 7.5 // 2, -7.5 % 2
1 / 3, 2 / 2, 1e16, 1e15, 123456789012345678.0, 0.1 + 0.2, 1e-5, 0.0001, -0.0, 5e-324
1_000 + 0x1F + 0o17 + 0b101 + 0
10 ** 18, 2 ** -1, 4 ** 0.5, 0 ** 0
'a' 'b' "c"
'\x41\u00e9\n\t\\\'\"\q\101\a'
"tab\tq" ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'a']
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0 == true
'a' < 'b', [1, 2] < [1, 3], (1,) < (1, 2), 'Z' < 'a'
1 < 'a'
none < 1
nothing < 1
1 in l, 4 in l, 'ell' in s, 'b' in d, 1 not in l, none in lm, nothing in l
1 in s
l in d
'x' in nothing
1 in 5
not 1 == 2, not not e, not l or le
s and e or 'x', le or none, none and 1
'yes' if t else 'no', 'yes' if fl, ('a' if z) is defined
1 if t if fl else 2
nothing, nothing.x
nothing.x
nothing[0]
nothing()
nothing + 1
nothing ~ 'x', nothing|length, nothing|list, nothing|upper
d.nothing, d.nothing.more
d.b, d['b'], d.a[0], d.a.1, d.c.x, d['c']['x']
d.items, d['items']
d.items(), d.keys(), d.values()
d.items()|list, d.items()|first, d|items|list, d|list, d|length
d.get('b'), d.get('q'), d.get('q', 5), d.get('q', default=5)
d.keys()|length, 'b' in d.keys(), d.values()|list
d|dictsort, d.c|dictsort, {'B': 1, 'a': 2}|dictsort, {'B': 1, 'a': 2}|dictsort(true), {'x': 2, 'y': 1}|dictsort(by='value', reverse=true)
d|tojson, d|tojson(indent=2), d|tojson(sort_keys=true), l|tojson(indent=1), de|tojson(indent=4), le|tojson(indent=4)
d|tojson(separators=(',', ':')), u|tojson, u|tojson(ensure_ascii=true), u|tojson(true), quote|tojson, html|tojson
{1: 2, none: 3, true: 4, 2.5: 1}|tojson
{(1, 2): 3}|tojson
nothing|tojson
[nothing]|tojson
range(3)|tojson
(1, 'a', none)|tojson, 1e20|tojson, 1.0|tojson, -0.5|tojson, (1e308 * 10)|tojson
d|string, dl|string, l|string, (1,)|string, ()|string, u|string, quote, [quote], ['it\'s'], ["\x00\u200b\n"]
[none, true, 1.5, 'a', u, html], {'a': none, 1: 'b'}, (1, (2,)), [[]], [()], {}
s[0], s[-1], s[20], s[1:4], s[::-1], s[-5:], s[:-3], s[::2], s[10:2:-3], u[1:4], u[::-1], u[-1], u[2]
l[::-1], l[1:], l[:1], l[-2:], l[5:], l[::2], (1, 2, 3)[::-1], range(10)[2:8:2], range(5)[::-1], range(10)[-1]
l['a'], l[1.0], l[true], l[none], s['upper'], d[l], d[none]
d[1:2]
nothing[1:2]
no[1:]
n[0:1]
l[::0]
l['a':]
s.upper(), s.lower(), u.upper(), 'ŉßﬁ'.upper(), 'ΑΣ ΑΣΑ'.lower(), 'İ'.lower(), u.title(), 'ßa'.capitalize(), "they're bill's".title(), 'ǆ'.title()
ws.strip(), ws.lstrip(), ws.rstrip(), 'xxaxx'.strip('x'), '\u00a0a\u3000'.strip(), '\u200ba'.strip(), '\x1ca\x85'.strip(), 'éaé'.strip('é')
s.split(', '), s.split(), ws.split(), ' a  b c '.split(' '), 'a,b,c'.split(',', 1), 'a b c d'.split(none, 2), 'a,b,c'.rsplit(',', 1), ' a b c '.rsplit(none, 1)
''.split(), ''.split(','), 'aXbX'.split('X'), 'abc'.split('')
lines.splitlines(), lines.splitlines(true), 'a\x0bb\x0cc\x1cd\u2028e'.splitlines(), ''.splitlines(), '\n'.splitlines()
s.startswith('Hell'), s.startswith(('x', 'H')), s.endswith('ld'), s.endswith(('a', 'd')), s.startswith('ello', 1), s.endswith('Hell', 0, 4), s.startswith('', 50)
s.startswith(1)
s.startswith(['H'])
s.replace('l', 'L'), s.replace('l', 'L', 1), 'aaa'.replace('', '-'), 'aaa'.replace('', '-', 2), ''.replace('', 'x'), u.replace('日', 'x')
s.find('o'), s.rfind('o'), s.find('q'), u.find('本'), s.find('o', 5), s.count('l'), s.count(''), 'aaaa'.count('aa'), s.index('W'), s.find('', 12), s.find('', 13)
s.index('q')
', '.join(ls), ''.join(['a']), '-'.join('abc'), '-'.join(d)
','.join([1, 2])
s.partition(', '), s.rpartition('l'), s.partition('q'), s.rpartition('q'), s.removeprefix('Hell'), s.removesuffix('ld'), s.removeprefix('x')
'5'.zfill(3), '-5'.zfill(4), '+5'.zfill(4), 'abc'.zfill(2), 'a'.center(4), 'ab'.center(5), 'abc'.center(6, '*'), 'a'.ljust(3, '.'), 'a'.rjust(3), 'é'.center(4, '日')
'a1'.isalnum(), '12'.isdigit(), '²'.isdigit(), '²'.isdecimal(), '½'.isnumeric(), ''.isalpha(), 'é'.isalpha(), ' '.isspace(), 'Aa'.istitle(), 'AB'.isupper(), 'a b'.islower(), '1'.islower()
'Straße'.casefold(), 'aBc'.swapcase(), 'a\u0301'.isalpha(), '\u200b'.isprintable(), ' '.isprintable(), 'a'.isascii(), u.isascii()
'{} {}'.format(1, 'a'), '{1} {0}'.format(1, 2), '{a}-{b!r}'.format(a=1, b='x'), '{0[b]} {0[c][x]}'.format(d), '{{}} {:>5}|{:<5}|{:^5}|{:*^7}'.format(1, 'a', 'b', 'c')
'{:05d} {:,} {:+d} {:x} {:#X} {:b} {:.2f} {:e} {:g} {:%} {:8.3f}|{:<8.2f}|'.format(42, 1234567, 5, 255, 255, 5, 3.14159, 12345.678, 0.00001, 0.25, 2.5, 2.5)
'{:.3} {:10.2}|{} {:{}}|'.format('abcdef', 'xyz', none, 'q', 4)
'{:d}'.format('a')
'{} {}'.format(1)
'{x}'.format(y=1)
'{'.format(1)
'%s %d %5.2f %x %r %% %05d %-5s| %+d %c %e %g' % (s, 42, 3.14159, 255, 'q', 7, 'ab', 5, 'z', 12345.678, 0.0001)
'%s' % 5, '%s' % 'a', '%s' % [1], '%(b)s-%(c)s' % d, '%d' % 3.99, '%5s|%-5s|%.2s' % ('a', 'b', 'cde'), '%s' % none, '%*d' % (5, 42)
'%d' % 'a'
'%s %s' % 1
'%s' % (1, 2)
'%s %d'|format('a', 5), '%(x)s'|format(x=3)
'%q' % 1
s|upper|lower|title|capitalize, 'foo bar-baz (qux) [a]'|title, u|capitalize, 5|upper, none|upper, l|upper
ws|trim, 'xax'|trim('x'), 5|trim, '  '|trim|length
s|replace('l', 'L'), s|replace('l', 'L', 1), 5|replace('5', 6), u|replace('ï', 'i')
s|length, u|length, l|length, d|length, 'e\u0301👍🏽'|length, range(5)|length
5|length
none|length
s|first, s|last, l|first, l|last, le|first, le|last, d|first, u|last, ''|first
5|first
l|join, l|join(', '), ls|join('-'), dl|join(',', attribute='role'), d|join('|'), s|join('.'), [1, none, true]|join(' '), nothing|join
5|join
s|list, d|list, l|list, range(3)|list, (1, 2)|list, none|default([])|list
5|list
l|reverse|list, s|reverse, u|reverse, (1, 2)|reverse|list, d|reverse|list
l|sort, ls|sort, ls|sort(case_sensitive=true), l|sort(reverse=true), dl|map(attribute='role')|sort|list, ['b', 'B', 'a', 'A']|sort, d|sort
lm|sort
dl|selectattr('n')|sort(attribute='n'), dl|selectattr('n', 'defined')|sort(attribute='role,n')|map(attribute='n')|list
[1, 1.0, true, 2]|unique|list, ['a', 'A', 'b']|unique|list, ['a', 'A']|unique(true)|list, dl|unique(attribute='role')|map(attribute='role')|list
[[1], [1]]|unique|list
l|min, l|max, ls|min, ls|max, le|max, ls|max(case_sensitive=true), dl|selectattr('n')|max(attribute='n')
l|sum, le|sum, [1.5, 2]|sum, l|sum(start=10), dl|selectattr('n')|sum(attribute='n'), ll|sum(start=[])
ls|sum
l|batch(2)|list, l|batch(2, 'x')|list, l|slice(2)|list, l|slice(2, 'x')|list, [1,2,3,4,5]|slice(3)|list, le|batch(2)|list
l|map('string')|list, ls|map('upper')|list, dl|map(attribute='content')|list, dl|map(attribute='n', default=0)|list, ls|map('replace', 'b', 'x')|list, ll|map('first')|list
l|map('nosuch')|list
l|map|list
l|map('nosuch') is iterable
l|select|list, lm|select|list, l|select('odd')|list, l|reject('odd')|list, lm|select('none')|list, l|select('gt', 1)|list, l|select('in', [1, 2])|list, [0, 1]|reject|list
dl|selectattr('content')|list, dl|selectattr('role', 'equalto', 'user')|list|length, dl|rejectattr('role', 'eq', 'user')|list, dl|selectattr('n', 'defined')|list|length, dl|selectattr('role', '==', 'user')|map(attribute='n')|list
l|select('nosuch')|list
none|select|list, 0|map('upper')|list, none|selectattr('a')|list
dl|groupby('role'), dl|groupby('role')|map('first')|list, dl|groupby('role')|map(attribute='grouper')|list, dl|groupby('n', default=0)|length
(l|map('string'))|length
(l|map('string'))|first, (l|map('string'))|join
l|map('string') is sequence, l|map('string') is iterable, l|map('string') and true
nothing|default('x'), e|default('x'), e|default('x', true), none|default('x'), none|default('x', boolean=true), nothing|default, nothing|d(1), d.nothing|default(d.b), fl|default(1), z|default(9, true)
nothing.x|default('x')
'3'|int, '3.7'|int, 'x'|int, 'x'|int(5), '0x1F'|int(base=16), 'ff'|int(0, 16), '  7 '|int, '1_000'|int, 3.9|int, -3.9|int, true|int, none|int, '1e3'|int, 'inf'|int, l|int, '-5'|int, '+5'|int
nothing|int
'3.5'|float, 'x'|float, 'x'|float(1.5), 3|float, true|float, none|float, '1e3'|float, 'nan'|float, 'inf'|float, '-inf'|float, ' 2 '|float, '1_0.5'|float, '.5'|float, '5.'|float
42.55|round, 42.55|round(1), 2.5|round, 3.5|round, -2.5|round, 42|round, 1234|round(-2), 1250|round(-2), 2.675|round(2), 42.55|round(1, 'floor'), 42.55|round(1, 'ceil'), 2.1|round(method='ceil'), true|round, 1e20|round, 25.0|round(-1)
'x'|round
3.7|abs, -3|abs, neg|abs, true|abs
'a'|abs
'a\nb\n\nc'|indent, 'a\nb'|indent(2), 'a\nb'|indent(2, true), 'a\n\nb'|indent(2, blank=true), 'a\nb'|indent('> '), 'a\n'|indent, ''|indent(2, true), lines|indent(width=1)
5|indent
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '...', 0), 'abc'|truncate(2, true, ''), u|truncate(6, true, '', 0)
'abc'|truncate(1)
'a'|center(5), s|wordcount, u|wordcount, html|striptags, 'a <!-- b --> c  <i>d</i>'|striptags
html|e, html|escape|escape, html|safe, html|forceescape, html|e|forceescape, (html|safe) + html, html + (html|safe), (html|safe) ~ html, html|safe|upper, [html|safe], html|safe is escaped, html|e is string
'a b/c?d=é&f'|urlencode, {'a b': 1, 'c': 'é/'}|urlencode, [('x', 'y z')]|urlencode
1000|filesizeformat, 1|filesizeformat, 1234567|filesizeformat, 1234567|filesizeformat(true), 100|filesizeformat, 1500000000000|filesizeformat, '2048'|filesizeformat(binary=true)
d|attr('b'), s|attr('upper') is callable, d|attr('items') is callable
5|string|length, 5.0|string, none|string, true|string, nothing|string|length
n is number, t is number, f is float, n is integer, t is integer, t is boolean, n is boolean, s is string, no is none, no is string, d is mapping, l is mapping, l is sequence, d is sequence, s is sequence, n is sequence
s is iterable, n is iterable, d is iterable, nothing is iterable, nothing is sequence, nothing is defined, d.b is defined, d.q is undefined, d.q is not defined, n is defined
t is true, 1 is true, fl is false, 0 is false, n is even, n is odd, 9 is divisibleby(3), 9 is divisibleby 2, n is sameas(n), none is sameas none, 1 is sameas true
s is lower, 'a' is lower, 'A' is upper, n is eq(42), n is equalto 42, n is gt 3, n is lt(3), n is in [42], 'H' is in s, n is ne 5, n is ge 42, n is le 41
range is callable, s.upper is callable, n is callable, nothing is callable, html is escaped
'upper' is filter, 'nosuch' is filter, 'odd' is test, 'nosuch' is test
n is nosuch
s|nosuch
(s|nosuch) if fl else 'ok'
(s|nosuch) if t else 'ok'
'ok' if true or (n is nosuch)
range(3), range(1, 10, 3), range(5, 0, -2), range(3)|list, range(1, 4)|sum, range(0)|list, 2 in range(3), range(3) == range(0, 3), range(3)[1], range(n)|last
range('a')
range(200000)
range(1, 2, 0)
dict(a=1, b=2), dict([('a', 1)]), dict({'a': 1}, b=2), dict(d.c), dict(), dict(a=1).a, dict(d, **{'z': 1})
dict(5)
namespace(a=1).a, namespace(a=1), namespace({'b': 2}).b, namespace().x is defined, namespace(a=1)['a']
joiner(', ')() ~ 'a', cycler(1, 2).next(), cycler('a', 'b').current
raise_exception('no ' ~ n)
s.append, l.append is defined, d.pop is defined
l.append(4)
d.update({'a': 1})
d.pop('a')
l.index(1), l.count(1), ls.index('c'), (1, 2, 1).count(1), l.copy()
l.index(9)
s.nosuch, l.nosuch, n.nosuch, none.nosuch, t.nosuch, n[0], t['x']
s.nosuch()
n()
s.upper(1)
s.__class__, s.__class__.__mro__ is defined
[1, 2] + [3], (1,) + (2,), [0] * 3, 'ab' * 3, 3 * 'ab', 'ab' * -1, (1, 2) * 2, 0 * [1]
[1] + (2,)
'a' + 1
1 + 'a'
l + none
s - 1
d + d
-s
+l
-t, +t, -f, --5, +-5, - 2
1 / 0
1 // 0
1 % 0
1.0 / 0
[1, 2,], (1, 2,), {'a': 1,}, (1,), (), [], {}, ((1)), (1, )
{'a': 1, 'a': 2}, {1: 'a', true: 'b'}, {'b': 1, 'a': 2}, {n: s}, {'x': {'y': [1]}}
{[1]: 2}
{d: 1}
[1, 2] == [1, 2], [1] == (1,), {'a': 1, 'b': 2} == {'b': 2, 'a': 1}, 1 == '1', none == false, '' == none, nothing == nothing, nothing == none, 1 == true, 1.0 == 1, d.items() == d.items()
s == 'Hello, World', s != e, l == [3, 1, 2.0], u == 'naïve ß 日本 👍'
foo.bar.baz if foo is defined else 'none'
l|length > 2 and l[0] == 3, l | length == 3, not l | length == 3, (l|length) - 1, -l|length
'a' ~ 1 + 2 ~ 'b'
1 ~ 2 * 3
d.c.x|upper ~ '!' , 'x' in 'xyz' and 'y' not in 'ab', s.split(',')[0].upper(), (s ~ '!').lower().split('o')|length
dl[0]['role'] == 'user' and dl[0].content is string, dl|length - 1, dl[-1]['role'], dl[0].get('content', '') | trim, dl[(dl|length) - 1].role
[dl[0], dl[1]]|map(attribute='role')|join(','), (dl|first).role, dl[1:]|length, dl[::-1][0].role, missing is defined
1 is not none and 2 is defined, not none is none, 1 if 2 is odd else 3, (1 is odd) is true
1 is odd is true
a..b
1 +
(1
[1
{1: }
{'a' 1}
l[
s.
s.1.2
s|
s||upper
1 if
not
x = 1
1 2
f(a=1, 2)
f(**d, 1)
f(*l, *l)
dict(**{'a': 1}), dict(*[d.c]), range(*[1, 3])|list, dict(*[], **{'q': 2}), s.split(*[','])
dict(**5)
range(*5)
'abc
"a' b
'\u12'
#
$x
a ? b
1; 2
a & b
lambda x: x
true, True, false, False, none, None, TRUE is defined, null is defined
is
in
""".strip("\n").split("\n")

STATEMENTS = [
    "{% if z %}a{% elif n %}b{% else %}c{% endif %}", "{% if nothing %}a{% endif %}|", "{% if not nothing and l %}a{% endif %}", "{% if l, %}x{% endif %}",
    "{% for x in l %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for x in le %}a{% else %}empty{% endfor %}",
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem }}-{{ x }}-{{ loop.nextitem }}{{ loop.previtem is defined }};{% endfor %}",
    "{% for x in l %}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for x in l %}{{ loop }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}{{ c }}.{% endfor %}", "{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}", "{% for a, b in [1] %}{% endfor %}", "{% for a, b in ['xy'] %}{{ b }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{{ loop.last }}{% endfor %}", "{% for x in l if x > 9 %}{% else %}none{% endfor %}", "{% for x in 5 %}{% endfor %}", "{% for x in none %}{% endfor %}",
    "{% for x in nothing %}a{% else %}b{% endfor %}", "{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% break %}", "{% if t %}{% continue %}{% endif %}",
    "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}", "{% for x in ll %}{% for y in x %}{{ loop.index }}{{ y }}{% endfor %};{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{% set ns.b = ns.a + 1 %}{{ ns.b }}{{ ns.c is defined }}", "{% set d.x = 1 %}", "{% set nothing.x = 1 %}", "{% set ns = namespace(a=1, b='x') %}{{ ns }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = l %}", "{% set (a, b) = (1, 2) %}{{ a + b }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ n }}{% endset %}{{ a }}{{ a|length }}", "{% set a | upper | replace('X', 'y') %}x{{ n }}{% endset %}{{ a }}",
    "{% set a = b %}{{ a is defined }}", "{% set true = 1 %}", "{% set 'a' = 1 %}", "{% set a.b.c = 1 %}", "{% set a[0] = 1 %}", "{% set x = x %}{{ x is defined }}", "{% if t %}{% set q = 1 %}{% endif %}{{ q }}", "{% if fl %}{% set q = 1 %}{% endif %}{{ q is defined }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=1, a=2) }} {{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, a=3) }}", "{% macro m(a) %}{{ varargs|length }}{{ kwargs.q }}{% endmacro %}{{ m(1, 2, 3, q=4) }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(5) }}", "{% macro m(a=1, b) %}{% endmacro %}",
    "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}body{{ n }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}body{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}",
    "{% call n %}x{% endcall %}", "{% call n() %}x{% endcall %}", "{% macro m(x) %}{% if x %}{{ x }}{{ m(x - 1) }}{% endif %}{% endmacro %}{{ m(5) }}", "{% macro m() %}{{ y }}{% endmacro %}{% set y = 3 %}{{ m() }}", "{% for y in l %}{% macro m() %}{{ y }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% macro m() %}{{ x }}{% endmacro %}{% for x in l %}{{ m() }}{% endfor %}", "{% macro m() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}", "{{ m(1) }}{% macro m(a) %}{% endmacro %}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m() %}{% endmacro %}{{ m }}{{ m.name }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1)|upper ~ m('x')|upper }}",
    "{% for x in [[1, [2, 3]], 4] recursive %}{% if x is iterable %}({{ loop(x) }}{{ loop.depth }}){% else %}{{ x }}{% endif %}{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% with n = 1, b = n %}{{ b }}{% endwith %}", "{% with %}{% set q = 1 %}{% endwith %}{{ q is defined }}",
    "{% filter upper %}abc {{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aa{% endfilter %}", "{% filter nosuch %}{% endfilter %}", "{% generation %}x{{ n }}{% endgeneration %}", "{% generation %}{% set q = 1 %}{% endgeneration %}{{ q is defined }}", "{% print 1, s %}", "{% print(1) %}",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "{# c {{ x }} #}a", "{# unclosed", "{{ unclosed", "{% if t %}", "{% raw %}x", "{% endif %}", "{% for x in l %}", "{% if t %}{% endfor %}", "{% nosuch %}", "{% do l %}", "{% extends 'x' %}", "{% include 'x' %}", "{% import 'x' as y %}",
    "{% if t: %}a{% endif %}", "{% for x in l: %}{{ x }}{% endfor %}", "{% else %}", "{% if %}a{% endif %}", "{% for in l %}{% endfor %}", "{% for x l %}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% set %}", "{% %}", "{% set x = %}", "{{ }}", "{{}}", "{% if t %}a{% else %}b{% else %}c{% endif %}", "{% for x in l %}{% elif %}{% endfor %}",
    "{% if t %}{{ s|nosuch }}{% endif %}", "{% if fl %}{{ s|nosuch }}{% endif %}ok", "{% if fl %}{{ n is nosuch }}{% endif %}ok", "{% for x in le %}{{ x|nosuch }}{% endfor %}", "{% if fl %}{% for x in l %}{{ x|nosuch }}{% endfor %}{% endif %}", "{% macro m() %}{{ 1|nosuch }}{% endmacro %}",
    "{% set g = l|map('string') %}{{ g|join }}{{ g|join }}", "{% set g = dl|selectattr('n') %}{% for x in g %}{{ x.n }}{{ loop.last }}{% endfor %}{{ g|list }}", "{% set g = l|map('string') %}{{ '1' in g }}{{ g|list }}", "{% for x in l|map('string') %}{{ loop.length }}{{ x }}{% endfor %}", "{% for x in l|map('string') %}{{ x }}{{ loop.revindex }}{% endfor %}",
    "{% set ns = namespace(go=true) %}{% for x in l if ns.go %}{{ x }}{% set ns.go = false %}{% endfor %}", "{% set j = joiner('|') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}", "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}", "{% set q = d.items %}{{ q()|length }}", "{% set up = s.upper %}{{ up() }}",
    "{% for k, v in d|dictsort %}{{ k }}{% endfor %}", "{% for k, v in d|items %}{{ k }}{% endfor %}", "{% for g in dl|groupby('role') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}", "{% for role, ms in dl|groupby('role') %}{{ role }}{{ ms|length }}{% endfor %}", "{% for a in l %}{% set l = [] %}{{ a }}{% endfor %}",
    "{% set x = namespace(v=[]) %}{% for i in l %}{% set x.v = x.v + [i] %}{% endfor %}{{ x.v }}", "{% set ns = namespace(a=1) %}{% macro m() %}{% set ns.a = ns.a + 1 %}{% endmacro %}{{ m() }}{{ m() }}{{ ns.a }}", "a{% if t %}\nb\n{% endif %}\nc\n", "{{ n }}\n", "{{ n }}\n\n", "\n", "", "\r\n{{ n }}\r\nx\r", "{{ 'a\r\nb' }}",
    "{{ {'a': {'b': {}}} }}", "{{ '}}' }}", "{{ '%}' }}{% if '%}' %}x{% endif %}", "{{ \"{{\" }}", "{{ [1}} ]", "{ { n } }", "{{{ 'a': 1 }}}", "{%if t%}a{%endif%}", "{{n}}{{-n-}} {{- n -}} x", "{% set a = 'x' -%}   y", "{{ raise_exception('Roles must alternate') }}", "{% if t %}{{ raise_exception(s) }}{% endif %}",
]

WHITESPACE = [
    "a\n  {% if t %}\n  b\n  {% endif %}\nc", "a\n  {%+ if t %}\n  b\n  {%+ endif +%}\nc", "a\n  {%- if t -%}\n  b\n  {%- endif -%}\nc", "  {% if t %}x{% endif %}  \n", "x  {% if t %}y{% endif %}", "  {{ n }}  ", "\n  {{- n -}}  \n", "  {# c #}\nx", "x {# c #} y", "  {#- c -#}  \nx", "  {#+ c +#}\nx",
    "a\n\n  {% set x = 1 %}\n\nb", "  {% raw %}\n x {% endraw %}\ny", "  {%- raw -%}\n x {%- endraw -%}\ny", "{% for x in l %}\n  {{ x }}\n{% endfor %}\n", "{% for x in l -%}\n  {{ x }}\n{%- endfor %}\n", "\t{% if t %}\n\tx\n\t{% endif %}\n", "\u00a0{% if t %}x{% endif %}", "{% if t %}{% endif %}\n\nx", "{{ n -}}\n\n x", "{{ n }}\n{% if t %}\nx{% endif %}",
    "{#- a -#} b {#- c -#}", "x\n{#- a #}\ny", "{% if t +%}\nx{% endif %}", "a {%- if t %} b {% endif -%} c", "{% if t %}  {% endif %}  {% if t %}  {% endif %}x", "   ", " \n ", "{%- if t %}\n\n{%- endif %}", "a  {%+ if t %}b{% endif %}",
]

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, tool=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.tool and message.role == "user" and message.content is string and not (message.content.startswith('<r>') and message.content.endswith('</r>')) %}
        {%- set ns.tool = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' }}{%- endif %}
        {{- content.lstrip('\\n') }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<call>{"name": "' + call.name + '", "arguments": ' }}
            {%- if call.arguments is string %}{{- call.arguments }}{%- else %}{{- call.arguments | tojson }}{%- endif %}
            {{- '}</call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<r>\\n' + content + '\\n</r>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""

ALTERNATING = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set system = false %}{% endif %}
{% for message in rest %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\\n' + system + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}
{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{% generation %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endgeneration %}{% endif %}
{% endfor %}
"""

HEADERS = """{% macro text_of(content) -%}
    {%- if content is string -%}{{ content | trim }}
    {%- elif content is iterable -%}
        {%- for part in content if part.type == 'text' -%}{{ part['text'] | trim }}{% if not loop.last %}{{ '\\n' }}{% endif %}{%- endfor -%}
    {%- endif -%}
{%- endmacro %}
{%- macro schema(node, depth=0) -%}
    {%- if node.type == 'object' -%}{ {%- for key, value in (node.properties or {})|dictsort %}{{ key }}{% if key not in (node.required or []) %}?{% endif %}: {{ schema(value, depth + 1) }}{% if not loop.last %}, {% endif %}{%- endfor -%} }
    {%- elif node.type == 'array' -%}{{ schema(node['items'], depth + 1) }}[]
    {%- elif node.enum is defined -%}{{ node.enum | map('tojson') | join(' | ') }}
    {%- else -%}{{ {'integer': 'number', 'number': 'number', 'string': 'string'}.get(node.type, 'any') }}
    {%- endif -%}
{%- endmacro -%}
{{- bos_token }}
{%- if tools is not none and tools is defined and tools|length > 0 %}
{%- for tool in tools %}
type {{ tool.function.name }} = ({{ schema(tool.function.parameters) }}) => any; // {{ tool.function.description | indent(4) }}
{%- endfor %}

{% endif %}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + text_of(message['content']) + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

TURNS = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}"""

TEMPLATES = {"chatml": CHATML, "alternating": ALTERNATING, "headers": HEADERS, "turns": TURNS}

_TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather\nof a city <b>", "parameters": {
    "type": "object", "required": ["city"], "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1},
                                                           "tags": {"type": "array", "items": {"type": "string"}}, "unit": {"enum": ["C", "F"]}}}}}]
_USER, _ANSWER = {"role": "user", "content": " Hi <b>& 'you' \"x\" é 日本\n"}, {"role": "assistant", "content": "Hello"}
_MESSAGES = [
    [_USER], [{"role": "system", "content": "Be brief."}, _USER], [_USER, _ANSWER, {"role": "user", "content": "bye\n"}], [_USER, _USER], [_ANSWER],
    [_USER, {"role": "assistant", "content": "<think>\nr\n</think>\n\ny"}, _USER], [_USER, {"role": "assistant", "content": "<think>\nr\n</think>\n\ny"}],
    [_USER, {"role": "assistant", "content": "", "reasoning_content": "because", "tool_calls": [
        {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2, "f": 1.5, "n": None, "b": True}}},
        {"type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Rome\"}"}}]},
     {"role": "tool", "content": "20"}, {"role": "tool", "content": "{\"t\": 25}"}, {"role": "assistant", "content": "warm"}],
    [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": " two "}]}], [{"role": "other", "content": "x"}], [],
]
_EXTRAS = [{"add_generation_prompt": True}, {"add_generation_prompt": False, "tools": _TOOLS}, {"add_generation_prompt": True, "enable_thinking": False}]
CONVERSATIONS = [{"bos_token": "<s>", "eos_token": "</s>", "tools": None, "messages": messages, **extra} for messages in _MESSAGES for extra in _EXTRAS]
