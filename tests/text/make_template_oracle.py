#!/usr/bin/env python3
"""Makes the rows that tests/text/test_template_oracle.cpp checks: templates, and what Python's jinja2 makes of them under the settings
of transformers' apply_chat_template (sandboxed and immutable, trim_blocks, lstrip_blocks, loop controls, tojson without escapes).

Needs the Python package `jinja2` (3.1.6). The test itself needs no Python: it reads what this script has written.

    make_template_oracle.py OUT.tar.xz

A row is {"group", "template", "variables", and "text" or "error": true}. Left out: results that show addresses in memory, integers
beyond 64 bits, and what depends on the time.
"""
import argparse
import copy
import functools
import io
import json
import random
import re
import sys
import tarfile
import warnings

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from template_cases import ARGUMENTS, CONVERSATIONS, EXPRESSIONS, FILTERS, METHODS, STATEMENTS, TEMPLATES, TESTS, VARIABLES, WHITESPACE

RANDOM_EXPRESSIONS, RANDOM_WHITESPACE, RANDOM_PROGRAMS, KEPT_ERRORS = 6000, 600, 900, 0.2


class Generation(jinja2.ext.Extension):
    """{% generation %} only marks its body."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    @staticmethod
    def _body(caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class Guarded:
    """A generator that has no text, where Python would show its address in memory."""

    def __init__(self, inner):
        self.inner = inner

    def __iter__(self):
        return self.inner

    def __next__(self):
        return next(self.inner)

    def __str__(self):
        raise TypeError("a generator has no text")

    __repr__ = __str__


def guarded(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        out = function(*args, **kwargs)
        return Guarded(out) if hasattr(out, "__next__") else out
    return wrapper


def environment():
    # Not optimized: folding constants would slice some values that cannot be sliced.
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"], optimized=False)
    env.filters["tojson"] = tojson
    for name in ("map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items", "reverse"):
        env.filters[name] = guarded(env.filters[name])
    env.globals["raise_exception"] = raise_exception
    return env


ENV = environment()
ADDRESS = re.compile(r" at 0x[0-9a-f]+>|<(built-in|bound|function|class|generator|method)\b|<jinja2|<filter object|<itertools|<list_reverse", re.IGNORECASE)
BIG = re.compile(r"(?<![\d.])\d{19,}(?![\d.])")


def slices_a_constant(template):
    """Jinja works such slices out before it renders, by other rules than its own."""
    try:
        found = [node for node in ENV.parse(template).find_all(nodes.Getitem) if isinstance(node.arg, nodes.Slice)]
    except jinja2.TemplateSyntaxError:
        return False
    for node in found:
        try:
            node.node.as_const()
            return not isinstance(node.node.as_const(), (str, list, tuple))
        except nodes.Impossible:
            pass
    return False


def row(group, template, variables):
    """None for what cannot be compared."""
    if slices_a_constant(template):
        return None
    out = {"group": group, "template": template, "variables": variables}
    try:
        text = ENV.from_string(template).render(**copy.deepcopy(variables))  # Jinja's own |indent changes a list
    except RecursionError:
        return None
    except (OverflowError, MemoryError) as error:
        return None if "too large" in str(error) or "too big" in str(error) else {**out, "error": True}
    except Exception:  # whatever Python raises is an error of the template
        return {**out, "error": True}
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    if len(text) > 20000 or ADDRESS.search(text) or any(int(n) > 2**63 - 1 for n in BIG.findall(text)):
        return None
    return {**out, "text": text}


def parts(line):
    """An expression line cut at its outer commas, and the whole line."""
    out, depth, quote, begin = [], 0, "", 0
    for i, c in enumerate(line):
        if quote:
            quote = "" if c == quote and line[i - 1] != "\\" else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            out.append(line[begin:i].strip())
            begin = i + 1
    return [line, *out, line[begin:].strip()] if out and not quote and depth == 0 else [line]


class Expressions:
    """Random expressions over VARIABLES: most make sense, many fail."""

    def __init__(self, rng):
        self.rng = rng

    def leaf(self):
        rng = self.rng
        kind = rng.randrange(10)
        if kind < 7:
            return rng.choice(list(VARIABLES))
        if kind == 7:
            return rng.choice(["nothing", "d.b", "d['a']", "dl[0]", "dl[0].role", "dl[-1].missing", "deep.k.z[0].q", "l[1]", "s[0]", "u[-1]"])
        return rng.choice(["1", "0", "-3", "2.5", "'x'", '"a b"', "''", "true", "none", "[1, 2]", "(1, 'a')", "{'k': 1}", "[]", "1e3", "'é'", "range(3)"])

    def argument(self):
        return self.rng.choice(ARGUMENTS) if self.rng.random() < 0.8 else self.make(0)

    def call(self, names):
        name, counts = self.rng.choice(names)
        arguments = ", ".join(self.argument() for _ in range(self.rng.choice(counts)))
        return f"{name}({arguments})" if arguments or self.rng.random() < 0.5 else name

    def make(self, depth):
        if depth <= 0:
            return self.leaf()
        rng, a = self.rng, self.make(depth - 1)
        kind = rng.randrange(14)
        if kind == 0:
            return f"({a} {rng.choice('+ - * / // % ** ~ ~ ~ + +'.split())} {self.make(depth - 1)})"
        if kind == 1:
            return f"({a} {rng.choice(['==', '!=', '<', '<=', '>', '>=', 'in', 'not in', 'in'])} {self.make(depth - 1)})"
        if kind == 2:
            return f"({a} {rng.choice(['and', 'or'])} {self.make(depth - 1)})"
        if kind == 3:
            return f"({rng.choice(['not ', '-', '+'])}{a})"
        if kind in (4, 5, 6):
            return f"{a}|{self.call(FILTERS)}"
        if kind == 7:
            return f"({a} is {rng.choice(['', '', 'not '])}{self.call(TESTS)})"
        if kind in (8, 9, 10):
            call = self.call(METHODS)
            return f"{a}.{call if '(' in call else call + '()'}"
        if kind == 11:
            bounds = [rng.choice(["", "", "1", "-1", "2", "-2", "0", "10"]) for _ in range(3)]
            return f"{a}[{':'.join(bounds[:rng.choice([2, 3])])}]"
        if kind == 12:
            return f"{a}{rng.choice(['[0]', '[-1]', '.role', '.b', '[1]', '.x', '[5]', '.c.x'])}"
        return f"({a} if {self.make(depth - 1)} else {self.make(depth - 1)})"


class Programs:
    """Random statements that print, assign, loop and call."""

    def __init__(self, rng):
        self.rng, self.expressions = rng, Expressions(rng)

    def name(self):
        return self.rng.choice(["x", "y", "z", "loop.index", "loop.last", "ns.v", "loop.previtem", "loop.revindex0", "m(1)", "m(x, b=2)"])

    def value(self):
        return self.name() if self.rng.random() < 0.6 else self.expressions.make(1)

    def block(self, depth):
        return "".join(self.statement(depth) for _ in range(self.rng.randint(1, 3)))

    def statement(self, depth):
        rng = self.rng
        kind = rng.randrange(12 if depth > 0 else 4)
        if kind <= 1:
            return "{{ " + self.value() + " }};"
        if kind == 2:
            return "{% set " + rng.choice(["x", "y", "z", "ns.v"]) + " = " + self.value() + " %}"
        if kind == 3:
            return rng.choice(["text ", "a\n", "  ", "{# note #}"])
        body = self.block(depth - 1)
        if kind == 4:
            return "{% if " + self.value() + " %}" + body + "{% elif x %}e{% else %}" + self.block(depth - 1) + "{% endif %}"
        if kind in (5, 6, 7):
            test = rng.choice(["", "", " if x != 2", " if not ns.v", " if loop is defined"])
            control = rng.choice(["", "", "{% if loop.index > 2 %}{% break %}{% endif %}", "{% if x == 1 %}{% continue %}{% endif %}"])
            over = rng.choice(["l", "ls", "range(4)", "d", "s", "[]", "[1, 2, 3]", "dl", "x", "d.items()"])
            return "{% for x in " + over + test + " %}" + control + body + "{% else %}none{% endfor %}"
        if kind == 8:
            return "{% macro m(a, b=" + self.expressions.leaf() + ") %}" + body + "{{ a }}{{ b }}{% endmacro %}"
        if kind == 9:
            return "{% set x %}" + body + "{% endset %}"
        if kind == 10:
            return "{% with y = " + self.value() + " %}" + body + "{% endwith %}"
        return "{% filter upper %}" + body + "{% endfilter %}"

    def make(self):
        return "{% set ns = namespace(v=0) %}{% macro m(a, b=1) %}<{{ a }},{{ b }}>{% endmacro %}" + self.block(3)


def whitespace(rng):
    """Tags with every kind of whitespace control between every kind of whitespace."""
    blank = lambda: rng.choice(["", " ", "\n", "  \n", "\n  ", " x ", "x", "\n\n", "\t", "\r\n", "  \n  y\n", "é \u00a0\n"])
    parts = []
    for _ in range(rng.randint(1, 7)):
        left, right = rng.choice(["", "", "-", "+"]), rng.choice(["", "", "-", "+"])
        kind = rng.randrange(6)
        if kind == 0:
            parts.append("{%" + left + " if t " + right + "%}" + blank() + "{%" + right + " endif " + left + "%}")
        elif kind == 1:
            parts.append("{{" + left.replace("+", "") + " n " + right.replace("+", "") + "}}")
        elif kind == 2:
            parts.append("{#" + left + " note " + right + "#}")
        elif kind == 3:
            parts.append("{%" + left + " raw " + right.replace("+", "") + "%}" + blank() + "{{ x }}" + blank() + "{%" + right + " endraw " + left + "%}")
        elif kind == 4:
            parts.append("{%" + left + " set q = 1 " + right + "%}")
        else:
            parts.append("{%" + left + " for i in l " + right + "%}" + blank() + "{{ i }}" + blank() + "{%" + right + " endfor " + left + "%}")
    return blank() + "".join(part + blank() for part in parts)


def rows():
    rng = random.Random(20)
    for line in EXPRESSIONS:
        for expression in parts(line):
            yield row("expression", "{{ " + expression + " }}", VARIABLES)
    for template in STATEMENTS:
        yield row("statement", template, VARIABLES)
    for template in WHITESPACE:
        yield row("whitespace", template, VARIABLES)
    for name, template in TEMPLATES.items():
        for conversation in CONVERSATIONS:
            yield row("chat " + name, template, conversation)
    expressions = Expressions(rng)
    for _ in range(RANDOM_EXPRESSIONS):
        text = expressions.make(rng.choice([1, 1, 2, 2, 3]))
        # By way of a variable: Jinja folds constants that are printed, by other rules.
        suffix = rng.choice(["", "", "|tojson", "|list", "|string"])
        yield row("random expression", "{% set r = " + text + " %}{{ r" + suffix + " }}", VARIABLES)
    for _ in range(RANDOM_WHITESPACE):
        yield row("random whitespace", whitespace(rng), VARIABLES)
    programs = Programs(rng)
    for _ in range(RANDOM_PROGRAMS):
        yield row("random program", programs.make(), VARIABLES)


def main():
    warnings.simplefilter("ignore", SyntaxWarning)  # what Python says of odd expressions
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="the archive to write")
    arguments = parser.parse_args()
    seen, lines, failing, keep = set(), [], 0, random.Random(21)
    for made in rows():
        if made is None or made["template"] in seen and not made["group"].startswith("chat"):
            continue
        seen.add(made["template"])
        # Most random expressions fail; a part of those is enough.
        if "error" in made and made["group"].startswith("random") and keep.random() > KEPT_ERRORS:
            continue
        failing += "error" in made
        if made["variables"] is VARIABLES:
            made["variables"] = None  # the test keeps them once, in the first line
        lines.append(json.dumps(made, ensure_ascii=False))
    data = "\n".join([json.dumps({"variables": VARIABLES}, ensure_ascii=False), *lines, ""]).encode()
    with tarfile.open(arguments.out, "w:xz", preset=9) as archive:
        entry = tarfile.TarInfo("templates.jsonl")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    print(f"{len(lines)} rows, {failing} of them errors", file=sys.stderr)


if __name__ == "__main__":
    main()
