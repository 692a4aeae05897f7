"""The language of `when`: conditions over fields, compiled to a Python expression.

    condition  = term (OR term)*        term = factor (AND factor)*
    factor     = NOT factor | ( condition ) | reference test
    test       = [IS] [NOT] VALUED | [IS] [NOT] EQUALS "x" | [NOT] IN ("x", "y") | COUNT > n | COUNT = n
    reference  = OBX-2, PID-5.7, OBX-5[1].1, XTN.3 (in a data type's map), OBX (the segment is there)

After the condition language of HL7's v2-to-FHIR guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mappings.engine.errors import Mistake

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"]*")|(?P<ref>[A-Z][A-Z0-9]{1,2}(?:[-.]\d+)?(?:\[\d+\])?(?:\.\d+){0,2}(?![A-Za-z]))"""
    r"""|(?P<word>[A-Za-z]+)|(?P<op>[(),=<>!]+?|\d+))""",
    re.VERBOSE,
)
_WORDS = {"OR", "AND", "NOT", "IS", "IN", "VALUED", "EQUALS", "COUNT"}
_REF = re.compile(r"([A-Z][A-Z0-9]{1,2})(?:[-.](\d+))?(?:\[(\d+)\])?(?:\.(\d+))?(?:\.(\d+))?")


class Reference:
    """A place in a message: `PID-5[2].1.3` or, inside a data type, `XTN.3`."""

    __slots__ = ("comp", "number", "rep", "root", "sub", "text")

    def __init__(self, text: str) -> None:
        found = _REF.fullmatch(text)
        if found is None:
            raise Mistake(f"{text!r} is not a field: write PID-5, PID-5.1, PID-5[2].1 or XPN.1")
        self.text = text
        self.root = found.group(1)
        self.number, self.rep, self.comp, self.sub = (int(part) if part else None for part in found.groups()[1:])


Terms = Callable[[Reference, str], str]
"""Compiles `reference` and what is asked of it (`valued`, `value`, `count`) to a Python expression."""


def compile_condition(text: str, terms: Terms) -> str:
    """Return `text` as a Python expression; raises `Mistake` where it cannot be read."""
    return _Parser(text, terms).whole()


class _Parser:
    def __init__(self, text: str, terms: Terms) -> None:
        self.tokens = self._split(text)
        self.terms = terms
        self.text = text

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, at = [], 0
        while at < len(text.rstrip()):
            found = _TOKEN.match(text, at)
            if found is None:
                raise Mistake(f"cannot read the condition from {text[at:]!r}")
            kind = str(found.lastgroup)
            value = found.group(kind)
            tokens.append(("word", value) if value in _WORDS else (kind, value))
            at = found.end()
        return tokens

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def take(self, *wanted: str) -> bool:
        if self.tokens and self.tokens[0][1] in wanted:
            self.tokens.pop(0)
            return True
        return False

    def whole(self) -> str:
        result = self.any()
        if self.tokens:
            raise Mistake(f"{self.peek()!r} is too much in the condition {self.text!r}")
        return result

    def any(self) -> str:
        parts = [self.all()]
        while self.take("OR"):
            parts.append(self.all())
        return parts[0] if len(parts) == 1 else f"({' or '.join(parts)})"

    def all(self) -> str:
        parts = [self.factor()]
        while self.take("AND"):
            parts.append(self.factor())
        return parts[0] if len(parts) == 1 else f"({' and '.join(parts)})"

    def factor(self) -> str:
        if self.take("NOT"):
            return f"(not {self.factor()})"
        if self.take("("):
            inner = self.any()
            if not self.take(")"):
                raise Mistake(f"a bracket is not closed in {self.text!r}")
            return inner
        if not self.tokens or self.tokens[0][0] != "ref":
            raise Mistake(f"a field was expected before {self.peek()!r} in {self.text!r}")
        return self.test(Reference(self.tokens.pop(0)[1]))

    def test(self, ref: Reference) -> str:
        self.take("IS")
        negated = self.take("NOT")
        result = self.positive(ref)
        return f"(not {result})" if negated else result

    def positive(self, ref: Reference) -> str:
        if self.take("VALUED"):
            return self.terms(ref, "valued")
        if self.take("EQUALS", "="):
            return f"({self.terms(ref, 'value')} == {self.literal()!r})"
        if self.take("IN"):
            return f"({self.terms(ref, 'value')} in {self.many()!r})"
        if self.take("COUNT"):
            op = self.tokens.pop(0)[1] if self.tokens else ""
            if op not in {">", "<", "="} or not self.peek().isdigit():
                raise Mistake(f"COUNT is followed by >, < or = and a number in {self.text!r}")
            return f"({self.terms(ref, 'count')} {'==' if op == '=' else op} {int(self.tokens.pop(0)[1])})"
        raise Mistake(f"after {ref.text} one of VALUED, EQUALS, IN, COUNT was expected in {self.text!r}")

    def literal(self) -> str:
        if not self.tokens or self.tokens[0][0] != "text":
            raise Mistake(f'a text in "…" was expected in {self.text!r}')
        return self.tokens.pop(0)[1][1:-1]

    def many(self) -> tuple[str, ...]:
        if not self.take("("):
            raise Mistake(f"IN is followed by a list in brackets in {self.text!r}")
        values = [self.literal()]
        while self.take(","):
            values.append(self.literal())
        if not self.take(")"):
            raise Mistake(f"a bracket is not closed in {self.text!r}")
        return tuple(values)
