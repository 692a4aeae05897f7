"""Pieces of SQL with what they give, and the ways from one to the other.

NULL is the empty collection everywhere. No piece can fail on a value that is not of the type it hopes for, because
one odd resource must not stop the publishing of its neighbours; what a view promises wrongly does fail, by `fail`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mappings.engine.views.quoting import literal

MANY = "gives more than one item where one is wanted"
_CHEAP = re.compile(r"\(*[a-z0-9_.]+(?: -> '[A-Za-z0-9_]+'\)*)*")


@dataclass(frozen=True, slots=True)
class One:
    """A jsonb value or NULL."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A jsonb array; NULL is as good as an empty one."""

    text: str


@dataclass(frozen=True, slots=True)
class Path:
    """The items that a jsonpath gives for a jsonb value."""

    start: str
    path: str
    nulls: bool

    @property
    def whole(self) -> str:
        """The path as an SQL constant; FHIR's arrays of primitives may hold nulls, which are not items."""
        return literal(f"lax {self.path}" + (" ? (@ != null)" if self.nulls else ""))


@dataclass(frozen=True, slots=True)
class Bool:
    """An SQL boolean."""

    text: str


@dataclass(frozen=True, slots=True)
class Number:
    """An SQL numeric."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """An SQL text."""

    text: str


Fragment = One | Items | Path | Bool | Number | Text


def fail(reason: str, anchor: str) -> str:
    """Return an integer expression that raises `reason` when it is evaluated, and not while the query is planned."""
    return f"({literal(reason)} || left(({anchor})::text, 0))::int"


def bound(value: str, use: Callable[[str], str]) -> str:
    """Return what `use` makes of a value that it names several times: computed once, unless it is cheap."""
    if _CHEAP.fullmatch(value):
        return f"({use(value)})"
    return f"(SELECT {use('q.v')} FROM (SELECT {value} AS v OFFSET 0) AS q)"


def items(piece: Fragment) -> str:
    """Return a piece as a jsonb array or NULL."""
    if isinstance(piece, Items):
        return piece.text
    if isinstance(piece, Path):
        return f"jsonb_path_query_array({piece.start}, {piece.whole})"
    return bound(jsonb(piece), lambda v: f"CASE WHEN {v} IS NOT NULL THEN jsonb_build_array({v}) END")


def jsonb(piece: Fragment, reason: str = MANY) -> str:
    """Return a piece as a single jsonb value or NULL; more than one item raise `reason` when the query runs."""
    if isinstance(piece, One):
        return piece.text
    if isinstance(piece, Path | Items):
        return bound(
            items(piece),
            lambda v: f"CASE WHEN jsonb_array_length({v}) > 1 THEN to_jsonb({fail(reason, v)}) ELSE {v} -> 0 END",
        )
    return f"to_jsonb({piece.text})"


def first(piece: Fragment) -> Fragment:
    """Return a piece's first item."""
    if isinstance(piece, Path):
        return One(f"jsonb_path_query_first({piece.start}, {piece.whole})")
    return One(f"({piece.text} -> 0)") if isinstance(piece, Items) else piece


def exists(piece: Fragment) -> str:
    """Return whether a piece has an item."""
    if isinstance(piece, Path):
        return f"coalesce(jsonb_path_exists({piece.start}, {piece.whole}), false)"
    if isinstance(piece, Items):
        return f"(coalesce(jsonb_array_length({piece.text}), 0) > 0)"
    return f"({piece.text} IS NOT NULL)"


def count(piece: Fragment) -> str:
    """Return how many items a piece has."""
    if isinstance(piece, Path | Items):
        return f"coalesce(jsonb_array_length({items(piece)}), 0)"
    return f"({piece.text} IS NOT NULL)::int"


def truth(piece: Fragment) -> str:
    """Return a piece as a condition: one item that is no boolean is true, none is NULL."""
    if isinstance(piece, Bool):
        return piece.text
    if isinstance(piece, Number | Text):
        return f"(CASE WHEN {piece.text} IS NOT NULL THEN true END)"
    return bound(
        jsonb(piece),
        lambda v: f"CASE WHEN jsonb_typeof({v}) = 'boolean' THEN ({v})::boolean WHEN {v} IS NOT NULL THEN true END",
    )


def strict_truth(piece: Fragment, reason: str) -> str:
    """Return a piece as a condition; an item that is no boolean raises `reason` when the query runs."""
    if isinstance(piece, Bool):
        return piece.text
    return bound(
        jsonb(piece, reason),
        lambda v: (
            f"CASE WHEN jsonb_typeof({v}) = 'boolean' THEN ({v})::boolean "
            f"WHEN {v} IS NOT NULL THEN ({fail(reason, v)})::boolean END"
        ),
    )


def boolean(piece: Fragment, reason: str) -> str:
    """Return a piece as a boolean; NULL where it is none."""
    if isinstance(piece, Bool):
        return piece.text
    return bound(jsonb(piece, reason), lambda v: f"CASE WHEN jsonb_typeof({v}) = 'boolean' THEN ({v})::boolean END")


def number(piece: Fragment, reason: str = MANY) -> str:
    """Return a piece as a numeric; NULL where it is no number."""
    if isinstance(piece, Number):
        return piece.text
    if isinstance(piece, Bool | Text):
        return "NULL::numeric"
    return bound(jsonb(piece, reason), lambda v: f"CASE WHEN jsonb_typeof({v}) = 'number' THEN ({v})::numeric END")


def string(piece: Fragment) -> str:
    """Return a piece as text; NULL where it is no string."""
    if isinstance(piece, Text):
        return piece.text
    if isinstance(piece, Bool | Number):
        return "NULL::text"
    return bound(jsonb(piece), lambda v: f"CASE WHEN jsonb_typeof({v}) = 'string' THEN {v} #>> '{{}}' END")


def any_text(piece: Fragment) -> str:
    """Return a primitive's text; NULL for what has none."""
    if isinstance(piece, Text):
        return piece.text
    if isinstance(piece, Bool | Number):
        return f"({piece.text})::text"
    return bound(
        jsonb(piece), lambda v: f"CASE WHEN jsonb_typeof({v}) NOT IN ('object', 'array') THEN {v} #>> '{{}}' END"
    )
