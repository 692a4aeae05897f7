"""Enrichment: what lookup tables and a site's own functions add to what a record says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from tasks import registry
from tasks.errors import ConfigError
from tasks.feed import Enrichment
from tasks.model import Conversion, Entry, Finding, Resource, UnmappedCode
from tasks.route.lookup import Lookup

Step = Callable[[Entry, Conversion], None]


class Enricher:
    """A feed's `enrich:`, compiled; `version` changes with every table's content."""

    def __init__(self, steps: Sequence[Enrichment]) -> None:
        """Read the tables; raises `ConfigError` for a table, column or function that is not there."""
        self._tables = {name: Lookup(name) for name in {step.table for step in steps if step.table}}
        self._steps = [self._compiled(step) for step in steps]

    def reload(self) -> str:
        """Read again what changed and return the tables' version; called between batches, never within one."""
        for table in self._tables.values():
            table.reload()
        return "".join(table.version for _, table in sorted(self._tables.items()))

    def __call__(self, conversion: Conversion) -> None:
        """Enrich what a record says, in place; a code that is in no table is a finding."""
        if self._steps:
            conversion.entries = [_own(entry) for entry in conversion.entries]
        for step in self._steps:
            for entry in conversion.entries:
                if not entry.deleted:
                    step(entry, conversion)

    def _compiled(self, step: Enrichment) -> Step:
        if step.call is not None:
            return _call(step)
        table = self._tables[str(step.table)]
        kind, _, path = str(step.translate or step.fill).partition(".")
        return _translate(table, kind, path) if step.translate else _fill(table, kind, path, step)


def _own(entry: Entry) -> Entry:
    """Return an entry of which what other records share is a copy."""
    return deepcopy(replace(entry, shared=False)) if entry.shared else entry


def _translate(table: Lookup, kind: str, path: str) -> Step:
    """Add a coding to each concept at a path for the codings that the table knows, by (system, code) or by code."""

    def step(entry: Entry, conversion: Conversion) -> None:
        if entry.resource["resourceType"] != kind:
            return
        for concept in [one for one in _at(entry.resource, path) if isinstance(one, dict)]:
            codings = [one for one in concept.get("coding", []) if isinstance(one, dict)]
            found = [row for one in codings if (row := _row(table, one.get("system", ""), one.get("code", "")))]
            if not found:
                conversion.findings.append(Finding("not-in-lookup", f"{kind}.{path}", "warning"))
                conversion.unmapped += [
                    UnmappedCode(f"lookup:{table.name}", one.get("system", ""), one.get("code", ""), f"{kind}.{path}")
                    for one in codings[:1]
                ]
            new = [one for row in found if (one := _coding(row)) not in codings]
            if new:
                _put_coding(entry, path, concept, [*codings, *new], new)

    return step


def _put_coding(entry: Entry, path: str, concept: dict[str, Any], codings: list[Any], new: list[Any]) -> None:
    # what a message's slots hold may be shared with other messages: the concept is replaced, not changed
    node = entry.resource
    *names, last = path.split(".")
    for name in names:
        node = node[name]
        if not isinstance(node, dict):
            concept["coding"] = codings
            return
    if isinstance(node[last], list):
        node[last] = [{**one, "coding": codings} if one is concept else one for one in node[last]]
    else:
        node[last] = {**concept, "coding": codings}
        if entry.slots is not None:
            entry.slots[f"enrich.{path}"] = [(f"{path}.coding", new)]


def _fill(table: Lookup, kind: str, path: str, step: Enrichment) -> Step:
    """Say an element that the record does not say, from the row that another element's value finds."""
    if "." in path:
        raise ConfigError(f"enrich: `fill: {kind}.{path}` is an element within another: name one of its own")

    def run(entry: Entry, conversion: Conversion) -> None:
        resource = entry.resource
        if resource["resourceType"] != kind or path in resource:
            return
        values = [value for value in _at(resource, str(step.by)) if isinstance(value, str)]
        row = next((row for value in values if (row := table.rows.get((value,)))), None)
        if row is None:
            if values:
                conversion.findings.append(Finding("not-in-lookup", f"{kind}.{step.by}", "information"))
            return
        if value := row.get(str(step.column), ""):
            resource[path] = value
            if entry.slots is not None:
                # a slot that stands only where no source's own field says anything
                entry.slots[f"~enrich.{path}"] = [(path, value)]

    if step.column not in next(iter(table.rows.values()), {step.column: ""}):
        raise ConfigError(f"enrich: lookup {table.name} has no column {step.column}")
    return run


def _call(step: Enrichment) -> Step:
    """Let a site's function, registered under `sluice.actions`, see and change each resource of a type."""
    function: Callable[..., Resource] = registry.find("actions", str(step.call))

    def run(entry: Entry, conversion: Conversion) -> None:
        if step.on not in {None, entry.resource["resourceType"]}:
            return
        before = dict(entry.resource)
        entry.resource = function(entry.resource, **step.options)
        if entry.slots is not None:
            new = [(name, value) for name, value in entry.resource.items() if before.get(name) != value]
            entry.slots[f"enrich.{step.call}"] = new

    return run


def _row(table: Lookup, system: str, code: str) -> Any:
    return table.rows.get((system, code)) or table.rows.get((code,))


def _coding(row: Any) -> dict[str, str]:
    found = {"system": row.get("to_system", ""), "code": row.get("to_code", ""), "display": row.get("to_display", "")}
    return {name: value for name, value in found.items() if value}


def _at(resource: Any, path: str) -> Iterator[Any]:
    nodes = [resource]
    for name in path.split("."):
        found = [node.get(name) for node in nodes if isinstance(node, dict)]
        nodes = [one for value in found for one in (value if isinstance(value, list) else [value]) if one is not None]
    yield from nodes
