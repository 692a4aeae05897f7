"""Routes: which destinations a record goes to, or why it is dropped.

A condition is `REF = VALUE`, `REF != VALUE`, `REF in A, B` or `REF valued`, joined by `and`. A reference is an HL7 v2
field (`MSH-9.1`, `PID-5.7`, `OBX[2]-5.1`), a CSV column or dotted element names of a FHIR resource.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.errors import ConfigError
from tasks.feed import Rule

V2_REFERENCE = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?-(\d+)(?:\[(\d+)\])?(?:\.(\d+))?(?:\.(\d+))?")
CONDITION = re.compile(r"\s*(\S+)\s*(?:(=|!=|\bin\b)\s*(.+?)|(valued))\s*")

Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a record goes: destinations, or a reason for which it is dropped."""

    to: tuple[str, ...]
    dropped: str | None = None


def compile_rules(rules: Sequence[Rule]) -> Callable[[Any], Decision]:
    """Return the function from a record's content to its decision; raises `ConfigError` for a condition's mistake.

    The first rule that holds decides; a record that no rule takes is dropped with the reason `no-route`.
    """
    compiled = [(_test(rule.when), Decision(rule.to, rule.drop)) for rule in rules]
    otherwise = Decision((), "no-route")

    def decide(content: Any) -> Decision:
        return next((decision for test, decision in compiled if test(content)), otherwise)

    return decide


def _test(when: str | None) -> Test:
    if when is None:
        return lambda _content: True
    parts = [_comparison(part) for part in re.split(r"\s+and(?:\s+|$)", when)]
    return lambda content: all(part(content) for part in parts)


def _comparison(text: str) -> Test:
    match = CONDITION.fullmatch(text)
    if not match:
        raise ConfigError(
            f"route: `{text}` is not a condition; write `MSH-9.1 = ORU`, `… != …`, `… in A, B` or `… valued`"
        )
    reference, operator, value, _valued = match.groups()
    read = _reader(reference)
    if operator is None:
        return lambda content: bool(read(content))
    wanted = {item.strip().strip("'\"") for item in value.split(",")} if operator == "in" else {value.strip("'\"")}
    if operator == "!=":
        return lambda content: read(content).isdisjoint(wanted)
    return lambda content: not read(content).isdisjoint(wanted)


def _reader(reference: str) -> Callable[[Any], set[str]]:
    match = V2_REFERENCE.fullmatch(reference)
    if match is None:
        return lambda content: _plain(content, reference.split("."))
    name = match[1]
    segment, field, repetition, component, sub = (int(part) if part else None for part in match.groups()[1:])

    def read(message: Any) -> set[str]:
        segments = message.all(name)
        if segment is not None:
            segments = segments[segment - 1 : segment]
        found = (item.value(field, repetition or 1, component or 1, sub or 1) for item in segments)
        return {value for value in found if value}

    return read


def _plain(content: Any, names: list[str]) -> set[str]:
    """The values at dotted names in rows or a resource; through lists to every element."""
    nodes = content if isinstance(content, list) else [content]
    for name in names:
        found = [node.get(name) for node in nodes if isinstance(node, dict)]
        nodes = [item for value in found for item in (value if isinstance(value, list) else [value])]
    return {str(node) for node in nodes if node not in (None, "")}
