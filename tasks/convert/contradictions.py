"""Leaves out of a converted resource what contradicts the rest of it, so that the rest is valid.

A message may say that a visit ended before it began, or that an organisation's phone is somebody's home: each field is
right by itself, the resource would break an invariant of FHIR. What is left out is a finding; the message keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from tasks.model import Entry, Finding, Resource, Slots

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "per-1": ("end",),
    "org-2": ("use",),
    "org-3": ("use",),
    "obs-6": ("dataAbsentReason",),
    "tim-9": ("offset",),
    "tim-10": ("when", "offset"),
    "con-4": ("abatementDateTime", "abatementString", "abatementPeriod"),
}
"""By invariant the elements that go, of the object that breaks it."""

_BREACH = "fhir-invariant-"
_STEP = re.compile(r"\.(\w+)(?:\.ofType\((\w)(\w*)\))?((?:\[\d+\])?)")

Path = tuple[str | int, ...]


def consistent(entry: Entry, findings: Iterable[Finding]) -> tuple[Entry, list[Finding]]:
    """Return an entry without what breaks the invariants in `findings`, and a warning for each element that went.

    The entry is the same where a finding is about anything else: then it is not valid without that part either.
    """
    found = list(findings)
    keys = [one.code.removeprefix(_BREACH) for one in found]
    if not all(one.code.startswith(_BREACH) and key in LEFT_OUT for one, key in zip(found, keys, strict=True)):
        return entry, []
    resource, slots, notes = entry.resource, entry.slots, []
    for finding, key in zip(found, keys, strict=True):
        path = _path(finding.location)
        node = _at(resource, path)
        gone = [name for name in LEFT_OUT[key] if name in node]
        resource = _without(resource, path, gone)
        slots = slots and _slots(slots, path, node, gone)
        notes += [Finding(f"left-out-{key}", f"{finding.location}.{name}") for name in gone]
    return Entry(resource, slots, entry.cleared, entry.deleted), notes


def _path(location: str) -> Path:
    """Return the names and indexes of a FHIRPath that the validator wrote."""
    steps: list[str | int] = []
    for name, first, rest, index in _STEP.findall(location):
        steps.append(name + first.upper() + rest)
        if index:
            steps.append(int(index[1:-1]))
    return tuple(steps)


def _at(node: Any, path: Path) -> Any:
    for step in path:
        node = node[step]
    return node


def _without(node: Any, path: Path, gone: list[str]) -> Any:
    """Return a copy: what a message said may be shared with what others said."""
    if not path:
        return {name: value for name, value in node.items() if name not in gone}
    copy: Any = list(node) if isinstance(node, list) else dict(node)
    copy[path[0]] = _without(node[path[0]], path[1:], gone)
    return copy


def _slots(slots: Slots, path: Path, node: Resource, gone: list[str]) -> Slots:
    """Return the slots without what the resource lost: a value of its own, or a part of a larger one."""
    names = [step for step in path if isinstance(step, str)]
    lost = {".".join([*names, name]) for name in gone}
    return {
        slot: [
            (where, _stripped(value, where.split("."), names, node, gone)) for where, value in said if where not in lost
        ]
        for slot, said in slots.items()
    }


def _stripped(value: Any, where: list[str], names: list[str], node: Resource, gone: list[str]) -> Any:
    if names[: len(where)] != where:
        return value
    if value == node:
        return _without(value, (), gone)
    if isinstance(value, list):
        return [_stripped(one, where, names, node, gone) for one in value]
    if isinstance(value, dict) and len(where) < len(names) and names[len(where)] in value:
        inner = names[len(where)]
        return {**value, inner: _stripped(value[inner], [*where, inner], names, node, gone)}
    return value
