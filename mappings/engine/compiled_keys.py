"""The keys of `keys.yaml` compiled for the maps: those of segments, and those of the data types that name things."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mappings.engine.codegen import Unit
from mappings.engine.conditions import Reference
from mappings.engine.errors import Mistake
from mappings.engine.keys import Get, Key, compile_key
from mappings.engine.kinds import Kind
from mappings.engine.run import Run

_REF = re.compile(r"\(?([A-Z][A-Z0-9]{1,2}(?:[-.]\d+)?(?:\.\d+)*)\)?\??$")


def datatype_keys(units: dict[str, Unit], kinds: dict[str, Kind], problems: list[str]) -> dict[str, Any]:
    result = {}
    for unit in units.values():
        if unit.resource:
            lines = [line for line in kinds[unit.type].keys if _roots(line) == {unit.root}]
            if not lines:
                problems.append(unit.head.problem(f"keys.yaml has no key of {unit.type} from {unit.root}"))
            result[unit.name] = _first([compile_key(line, _component(unit)) for line in lines])
    return result


def _roots(line: str) -> set[str]:
    roots = set()
    for word in line.split():
        found = _REF.search(word)
        if found and not word.startswith("id("):
            roots.add(Reference(found.group(1)).root)
    return roots


def _of_segments(line: str) -> bool:
    words = _MAKER.sub("", line).split()
    return all("-" in word for word in words if not word.startswith("id("))


_MAKER = re.compile(r"([A-Z][A-Z0-9]{2}): ")


def _of_maker(line: str) -> Key:
    """Return the key of a line; one that begins with `DG1:` names what a DG1 makes, and nothing else.

    Without that a problem (PRB) would be named by the diagnosis that stands before it.
    """
    found = _MAKER.match(line)
    key = compile_key(_MAKER.sub("", line), _field)
    if found is None:
        return key
    maker = found.group(1)
    return lambda run, here: key(run, here) if here is None or here.name == maker else None


def _component(unit: Unit) -> Callable[[Reference], Get]:
    def get(ref: Reference) -> Get:
        if ref.number is None:
            return lambda run, c: [c]
        at = ref.number - 1
        return lambda run, c: [[c[at]]] if len(c) > at and c[at] else []

    _ = unit
    return get


def _first(keys: list[Key]) -> Callable[[Any, Run, str], Any]:
    def first(components: Any, run: Run, at: str) -> Any:
        for key in keys:
            found = key(run, components)
            if found is not None:
                return found
        return None

    return first


def segment_keys(kinds: dict[str, Kind], problems: list[str]) -> tuple[dict[str, list[Key]], dict[str, Key]]:
    keys: dict[str, list[Key]] = {}
    repeats: dict[str, Key] = {}
    for name, kind in kinds.items():
        try:
            lines = [line for line in kind.keys if _of_segments(line)]
            keys[name] = [_of_maker(line) for line in lines]
            if kind.repeat and kind.repeat != "count":
                repeats[name] = compile_key(kind.repeat, _field)
        except Mistake as mistake:
            problems.append(f"keys.yaml: {name}: {mistake}")
    return keys, repeats


def _field(ref: Reference) -> Get:
    root, number = ref.root, ref.number
    if number is None:
        raise Mistake(f"{ref.text} is a whole segment: write {ref.text}-n")

    def get(run: Run, seg: Any) -> Any:
        here = seg if seg is not None and seg.name == root else run.scope.segment(root)
        return here.field(number) if here is not None else ()

    return get
