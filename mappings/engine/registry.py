"""Named functions that mapping rows call with `as`.

- A *text* function takes one text and returns a value of the FHIR type it is registered with.
- A *composite* function takes a repetition's components and returns a value of its type.
- A *finish* function takes a repetition's components and the value under construction and completes it.
- A *segment* function takes a segment and the resource (or element) under construction and fills it in.

All take the run, the place for findings (`5.1` within the segment) and the row's table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "composite", "finish", "segment"]


@dataclass(frozen=True, slots=True)
class Function:
    """A registered function: its name in mapping files, what it takes, the FHIR type it returns (`*`: any)."""

    name: str
    kind: Kind
    type: str
    call: Callable[..., Any]
    tabled: bool = False
    """It does something only where the row has a code table."""
    makes: bool = True
    """As a message row's action it may make resources of labels that no row has."""


FUNCTIONS: dict[str, Function] = {}


def _register(kind: Kind, name: str, type_name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def keep(call: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = Function(name, kind, type_name, call)
        return call

    return keep


def text(name: str, type_name: str = "*") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(text, run, at, table) -> value or None`."""
    return _register("text", name, type_name)


def composite(name: str, type_name: str = "*") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(components, run, at, table) -> value or None`."""
    return _register("composite", name, type_name)


def finish(name: str, tabled: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(components, run, at, table, value) -> None`; `tabled` ones run only with a table."""

    def keep(call: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = Function(name, "finish", "*", call, tabled)
        return call

    return keep


def segment(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(segment, run, target) -> None`; `target` is the resource or element as a dict."""
    return _register("segment", name, "*")


def action(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function `(segment, run) -> None` for message rows; what it makes, a row has the label of, too."""

    def keep(call: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS[name] = Function(name, "segment", "*", call, makes=False)
        return call

    return keep
