"""FHIRPath's text as a tree: the subset that SQL on FHIR asks for, and what stands near to it.

Source: FHIRPath N1, chapters 3 (literals), 5 (functions), 6 (operations) and its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class This:
    """`$this`, and what a path without a start begins with."""


@dataclass(frozen=True, slots=True)
class Value:
    """A literal: `type` is its FHIR type."""

    value: str | bool | int | Decimal
    type: str


@dataclass(frozen=True, slots=True)
class Nothing:
    """`{}`."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`%name`."""

    name: str


@dataclass(frozen=True, slots=True)
class Name:
    """`base.name`."""

    base: Syntax
    name: str


@dataclass(frozen=True, slots=True)
class At:
    """`base[position]`."""

    base: Syntax
    position: Syntax


@dataclass(frozen=True, slots=True)
class Call:
    """`base.name(arguments)`."""

    base: Syntax
    name: str
    arguments: tuple[Syntax, ...]


@dataclass(frozen=True, slots=True)
class Infix:
    """`left operator right`."""

    operator: str
    left: Syntax
    right: Syntax


Syntax = This | Value | Nothing | Variable | Name | At | Call | Infix

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<comment>//[^\n]*|/\*.*?\*/)
  | (?P<time>@T\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?)
  | (?P<datetime>@\d{4}(?:-\d{2}(?:-\d{2})?)?(?:T(?:\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z|[+-]\d{2}:\d{2})?)?)?)
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<string>'(?:[^'\\]|\\.)*')
  | (?P<quoted>`(?:[^`\\]|\\.)*`)
  | (?P<variable>%(?:`[^`]+`|[A-Za-z_][A-Za-z0-9_]*))
  | (?P<special>\$[a-z]+)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<symbol><=|>=|!=|[-+*/&|=<>().,\[\]{}~!])
)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
_BINDING = {
    "implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "!=": 5, "<": 6, ">": 6, "<=": 6,
    ">=": 6, "|": 7, "is": 8, "as": 8, "+": 9, "-": 9, "&": 9, "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip
_DEEPEST = 60


def parse(text: str) -> Syntax:
    """Return the tree of a FHIRPath expression; raises `ValueError` that says where it stops to be one."""
    parser = _Parser(text)
    tree = parser.expression(0)
    if parser.kind != "end":
        raise parser.error("an operator or the end")
    return tree


def _unescape(text: str) -> str:
    def char(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(char, text[1:-1])


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.kind = self.word = ""
        self.start = 0
        self.next()

    def error(self, wanted: str) -> ValueError:
        found = repr(self.word) if self.word else "the end"
        return ValueError(
            f"not a FHIRPath expression: at character {self.start + 1} stands {found} instead of {wanted}"
        )

    def next(self) -> str:
        """Go to the next token and return the one that was left."""
        before = self.word
        self.kind = "comment"
        while self.kind == "comment":
            match = _TOKEN.match(self.text, self.position)
            if match is None:
                rest = self.text[self.position :].lstrip()
                self.start = len(self.text) - len(rest)
                self.kind, self.word = ("unknown", rest[:1]) if rest else ("end", "")
                return before
            self.kind = str(match.lastgroup)
            self.word = match[self.kind]
            self.start = match.start(self.kind)
            self.position = match.end()
        return before

    def take(self, symbol: str) -> None:
        if self.kind != "symbol" or self.word != symbol:
            raise self.error(f"{symbol!r}")
        self.next()

    def expression(self, binding: int) -> Syntax:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} levels deep")
        left = self.unary()
        while self.kind in {"symbol", "name"} and _BINDING.get(self.word, 0) > binding:
            operator = self.next()
            if operator in {"is", "as"}:
                left = Call(left, operator, (self.type_name(),))
            else:
                left = Infix(operator, left, self.expression(_BINDING[operator]))
        self.depth -= 1
        return left

    def type_name(self) -> Syntax:
        if self.kind not in {"name", "quoted"}:
            raise self.error("a type")
        tree: Syntax = Name(This(), self.next())
        while self.word == "." and self.kind == "symbol":
            self.next()
            tree = Name(tree, self.next())
        return tree

    def unary(self) -> Syntax:
        if self.kind == "symbol" and self.word in {"-", "+"}:
            sign = self.next()
            operand = self.unary()
            if sign == "+":
                return operand
            if isinstance(operand, Value) and isinstance(operand.value, int | Decimal):
                return Value(-operand.value, operand.type)
            return Infix("-", Value(0, "integer"), operand)
        return self.postfix(self.term())

    def postfix(self, tree: Syntax) -> Syntax:
        while self.kind == "symbol" and self.word in {".", "["}:
            if self.next() == "[":
                tree = At(tree, self.expression(0))
                self.take("]")
            else:
                tree = self.invocation(tree)
        return tree

    def invocation(self, base: Syntax) -> Syntax:
        if self.kind not in {"name", "quoted"}:
            raise self.error("a name")
        quoted = self.kind == "quoted"
        name = self.next()
        if quoted:
            return Name(base, _unescape(name))
        if self.kind == "symbol" and self.word == "(":
            self.next()
            return Call(base, name, self.arguments())
        return Name(base, name)

    def arguments(self) -> tuple[Syntax, ...]:
        found: list[Syntax] = []
        while not (self.kind == "symbol" and self.word == ")"):
            if found:
                self.take(",")
            found.append(self.expression(0))
        self.next()
        return tuple(found)

    def term(self) -> Syntax:
        if self.kind in {"name", "quoted"} and self.word not in {"true", "false"}:
            return self.invocation(This())
        if self.kind == "symbol":
            return self.bracketed()
        literal = _LITERALS.get("boolean" if self.word in {"true", "false"} else self.kind)
        if literal is None or (self.kind == "special" and self.word != "$this"):
            raise self.error("a value or a path")
        return literal(self.next())

    def bracketed(self) -> Syntax:
        if self.word == "{":
            self.next()
            self.take("}")
            return Nothing()
        self.take("(")
        tree = self.expression(0)
        self.take(")")
        return tree


def _date(text: str) -> Syntax:
    return Value(text[1:].removesuffix("T"), "dateTime" if "T" in text else "date")


def _number(text: str) -> Syntax:
    return Value(Decimal(text), "decimal") if "." in text else Value(int(text), "integer")


_LITERALS: dict[str, Callable[[str], Syntax]] = {
    "boolean": lambda text: Value(text == "true", "boolean"),
    "time": lambda text: Value(text[2:], "time"),
    "datetime": _date,
    "number": _number,
    "string": lambda text: Value(_unescape(text), "string"),
    "variable": lambda text: Variable(text[1:].strip("`")),
    "special": lambda _text: This(),
}
