"""Routes: which destinations a record goes to, or why it is dropped.

A condition is `REF = VALUE`, `REF != VALUE`, `REF in A, B` or `REF valued`, joined by `and`. A reference is an HL7 v2
field (`MSH-9.1`, `PID-5.7`, `OBX[2]-5.1`), a CSV column or dotted element names of a FHIR resource. A condition on a
FHIR resource may be FHIRPath behind its type: `Observation: status = 'final' and value.exists()`. A column whose name
has spaces stands in quotes: `'Result Status' = F`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from mappings.engine.views import ViewError, compile_view
from tasks import registry
from tasks.errors import ConfigError
from tasks.feed import Rule

V2_REFERENCE = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?-(\d+)(?:\[(\d+)\])?(?:\.(\d+))?(?:\.(\d+))?")
CONDITION = re.compile(r"\s*('[^']+'|\"[^\"]+\"|\S+)\s*(?:(=|!=|\bin\b)\s*(.+?)|(valued))\s*")

FHIRPATH = re.compile(r"\s*([A-Z][A-Za-z]+):\s+(.+)", re.DOTALL)

RESOURCES = frozenset({"fhir-ndjson", "fhir-bundle"})
"""Formats whose records are FHIR resources: a condition on them has no HL7 v2 field, as one on messages has no path."""

Test = Callable[[Any], bool]
Read = Callable[[Any], set[str]]


@runtime_checkable
class Columns(Protocol):
    """A format of rows whose cells have no names of their own: it knows the declared ones."""

    def column(self, name: str) -> Read:
        """Return what reads a column in a record's rows; raises `ConfigError` where it is not declared."""

    def named(self, content: Any) -> list[dict[str, str]]:
        """Return a record's rows as a site's own function takes them: cells by column."""


class RouteMistake(ConfigError):
    """Rules of a route are wrong; `rules` are their numbers from 0, one for each of `problems`."""

    def __init__(self, found: Sequence[tuple[int, str]]) -> None:
        super().__init__(found[0][1], tuple(text for _, text in found))
        self.rules = tuple(number for number, _ in found)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a record goes: destinations, or a reason for which it is dropped.

    - `only`: by destination the resource types that go there, where not all of them do.
    """

    to: tuple[str, ...]
    dropped: str | None = None
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def takes(self, destination: str, resource_type: str) -> bool:
        """Say whether a destination of this record is sent its resources of a type."""
        return destination not in self.only or resource_type in self.only[destination]


def compile_rules(
    rules: Sequence[Rule], columns: Columns | None = None, format_name: str = ""
) -> Callable[[Any], Decision]:
    """Return the function from a record's content to its decision; raises `RouteMistake` for conditions' mistakes.

    The first rule that holds decides; a record that no rule takes is dropped with the reason `no-route`. With
    `columns` a condition's references are columns and nothing else; the name of a format that Sluice brings says
    whether they are fields of HL7 v2 or elements of a resource.
    """
    compiled, wrong = [], []
    for number, rule in enumerate(rules):
        try:
            compiled.append((_test(rule.when, columns, format_name), _action(rule, columns), rule.go_on))
        except ConfigError as error:
            wrong.append((number, str(error)))
    if wrong:
        raise RouteMistake(wrong)
    otherwise = Decision((), "no-route")

    def decide(content: Any) -> Decision:
        found: Decision | None = None
        for test, act, go_on in compiled:
            if test(content) and (said := act(content)) is not None:
                # what went somewhere already is not dropped by a later rule: the rest of it is
                found = said if found is None else found if said.dropped else _both(found, said)
                if not go_on:
                    break
        return found or otherwise

    return decide


def _action(rule: Rule, columns: Columns | None) -> Callable[[Any], Decision | None]:
    fixed = Decision(rule.to, rule.drop, {name: frozenset(rule.only) for name in rule.to} if rule.only else {})
    if rule.call is None:
        return lambda _content: fixed
    chooses: Callable[[Any], Any] = registry.find("actions", rule.call)

    def act(content: Any) -> Decision | None:
        """None: the next rule decides; a text: dropped for that reason; else those of `to` that it names."""
        said = chooses(columns.named(content) if columns else content)
        if said is None or isinstance(said, str):
            return None if said is None else Decision((), said)
        return replace(fixed, to=tuple(name for name in rule.to if name in set(said)))

    return act


def _both(first: Decision, second: Decision) -> Decision:
    """Unite two rules' destinations; one that both name is sent what either sends it."""
    only: dict[str, frozenset[str]] = {}
    for name in {*first.only, *second.only}:
        sides = [one.only.get(name) for one in (first, second) if name in one.to]
        if all(side is not None for side in sides):
            only[name] = frozenset().union(*(side or frozenset() for side in sides))
    return Decision(tuple(dict.fromkeys((*first.to, *second.to))), None, only)


def _test(when: str | None, columns: Columns | None, format_name: str) -> Test:
    if when is None:
        return lambda _content: True
    if not columns and format_name != "hl7v2" and (path := FHIRPATH.fullmatch(when)):
        return _fhirpath(path[1], path[2])
    parts = [_comparison(part, columns, format_name) for part in re.split(r"\s+and(?:\s+|$)", when)]
    return lambda content: all(part(content) for part in parts)


def _fhirpath(resource_type: str, path: str) -> Test:
    """A FHIRPath condition on a resource of a type, as a view's `where` has it."""
    column = {"column": [{"name": "id", "path": "id"}]}
    view = {"resource": resource_type, "status": "active", "name": "route", "select": [column]}
    try:
        compiled = compile_view({"resourceType": "ViewDefinition", **view, "where": [{"path": path}]})
    except ViewError as error:
        raise ConfigError(f"route: `{path}` is not FHIRPath: {error}") from None

    def test(content: Any) -> bool:
        try:
            return bool(list(compiled.rows([content]))) if isinstance(content, dict) else False
        except ViewError:
            return False

    return test


def _comparison(text: str, columns: Columns | None, format_name: str) -> Test:
    match = CONDITION.fullmatch(text)
    if not match:
        raise ConfigError(
            f"route: `{text}` is not a condition; write `MSH-9.1 = ORU`, `… != …`, `… in A, B` or `… valued`"
        )
    reference, operator, value, _valued = match.groups()
    reference = reference.strip("'\"")
    read = columns.column(reference) if columns else _reader(reference, format_name)
    if operator is None:
        return lambda content: bool(read(content))
    wanted = {item.strip().strip("'\"") for item in value.split(",")} if operator == "in" else {value.strip("'\"")}
    if operator == "!=":
        return lambda content: read(content).isdisjoint(wanted)
    return lambda content: not read(content).isdisjoint(wanted)


def _reader(reference: str, format_name: str) -> Read:
    match = V2_REFERENCE.fullmatch(reference)
    if match and format_name in RESOURCES:
        raise ConfigError(
            f"route: `{reference}` is a field of HL7 v2, and the feed's format is {format_name}:"
            " write elements of the resource, `resourceType = Patient` or `Patient: gender = 'male'`"
        )
    if match is None and format_name == "hl7v2":
        raise ConfigError(f"route: `{reference}` is not a field of HL7 v2: write `MSH-9.1`, `PID-5.7` or `OBX[2]-5.1`")
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
