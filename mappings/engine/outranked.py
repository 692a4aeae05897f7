"""Fields that no row takes this time, because the conditions of all of their rows are false: noted, never dropped.

A row that gives way to another field (`when: OBR-6 NOT VALUED`) is silent where that one says all of it too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mappings.engine import codegen
from mappings.engine.codegen import Row, Unit, Writer
from mappings.engine.conditions import Reference
from mappings.engine.excess import excess_anew, excess_of
from mappings.engine.helpers import EMPTY, valued
from mappings.engine.protocols import CLEAR
from mappings.engine.registry import FUNCTIONS
from mappings.engine.source import Line

if TYPE_CHECKING:
    from mappings.engine.emit import Shop
    from mappings.engine.nodes import Node
    from mappings.engine.protocols import Repetitions, Segment
    from mappings.engine.run import Run

_INSTEAD = re.compile(r"([A-Z][A-Z0-9]{2})-(\d+)(?:\.\d+)* NOT VALUED")


def outranked(run: Run, seg: Segment, number: int, instead: Sequence[tuple[str, int]]) -> None:
    """Note field `number` of `seg`, unless it says nothing that one of the fields before it (`instead`) does not."""
    own = seg.field(number)
    for name, other in instead:
        found = seg if name == seg.name else run.scope.segment(name)
        if found is not None and _within(own, found.field(other)):
            return
    run.find("outranked", str(number), "information")


def _within(own: Repetitions, other: Repetitions) -> bool:
    """Say whether each text of `own` stands in `other` at the same place, be it with more of a time's digits."""
    for rep, components in enumerate(own):
        for comp, subs in enumerate(components):
            for sub, text in enumerate(subs):
                if text.strip() not in EMPTY and not _same(text.strip(), _at(other, rep, comp, sub)):
                    return False
    return True


def _at(field: Repetitions, rep: int, comp: int, sub: int) -> str:
    try:
        return field[rep][comp][sub].strip()
    except IndexError:
        return ""


def _same(one: str, other: str) -> bool:
    return one == other or (one.isdigit() and len(one) >= _DAY and other.startswith(one))


_DAY = 8
"""Digits of a date: one that is as long may go on with a time of day."""


def note_field(unit: Unit, shop: Shop, rows: Sequence[Row], number: int) -> None:
    """Write the check of a segment's field, where a condition stands at each of its rows."""
    if any("when" not in row.line.values for row in rows) or _elsewhere(unit, shop, number):
        return
    from mappings.engine.emit import field_term

    texts = [str(row.line.values["when"]) for row in rows]
    if any(f"NOT {text}" in texts or (" NOT" in text and text.replace(" NOT", "", 1) in texts) for text in texts):
        return
    conditions = dict.fromkeys(codegen.condition(row.line, field_term(unit.root)) for row in rows)
    instead = [(name, int(at)) for text in texts for name, at in _INSTEAD.findall(text)]
    test = " or ".join(f"({text})" for text in conditions)
    call = shop.writer.keep("outranked", outranked)
    shop.writer.add(f"if not ({test}): {call}(run, seg, {number}, {tuple(dict.fromkeys(instead))!r})")


def note_whole(unit: Unit, shop: Shop, row: Row, when: str) -> None:
    """Write the check of the fields that a function takes under a condition, where no other row takes them."""
    sources = row.line.values.get("from")
    references = [Reference(str(text)) for text in (sources if isinstance(sources, list) else [])]
    numbers = [ref.number for ref in references if ref.root == unit.root and ref.number]
    unheard = tuple(number for number in numbers if not _elsewhere(unit, shop, number, but=[row.line]))
    if not unheard:
        return
    instead = tuple((name, int(at)) for name, at in _INSTEAD.findall(str(row.line.values["when"])))
    call = shop.writer.keep("outranked_all", outranked_all)
    shop.writer.add(f"if not ({when}): {call}(run, seg, {unheard!r}, {instead!r})")


def outranked_all(run: Run, seg: Segment, numbers: Sequence[int], instead: Sequence[tuple[str, int]]) -> None:
    """Note those of the fields that are valued."""
    for number in numbers:
        if valued(seg, number):
            outranked(run, seg, number, instead)


def note_rest(unit: Unit, shop: Shop, rows: Sequence[Row], number: int) -> None:
    """Write the check of a field of which all rows take the first component: the others are noted."""
    if any(row.source is None or row.source.comp or not _first_alone(row) for row in rows):
        return
    if _elsewhere(unit, shop, number, but=[row.line for row in rows]):
        return
    first = shop.writer.keep("k_first", frozenset({1}))
    shop.writer.add(f"if len(v[0]) > 1: run.rest(v[0], {first}, '{number}')")


def note_excess(unit: Unit, shop: Shop, number: int) -> None:
    """Write the check of a field's value `v` against its data type, where there is more than one text in it."""
    call = shop.writer.keep("excess_of", excess_of)
    shop.writer.add("if len(v) > 1 or len(v[0]) > 1 or len(v[0][0]) > 1:")
    shop.writer.add(f"    {call}(run, seg, {number}, {_filled(unit)})")


def note_excess_of(unit: Unit, shop: Shop, row: Row) -> None:
    """Write the same of the fields that a function takes, where one of the message's separators is in their text."""
    call = shop.writer.keep("excess_anew", excess_anew)
    for number in sorted(row.covers):
        group = next(shop.groups)
        several = " or ".join(f"K[{at}] in T[{number}]" for at in range(3))
        shop.writer.add(f"if n >= {number} and ({several}) and T[{number}] not in M[{group}]:")
        shop.writer.add(f"    {call}(run, seg, {number}, {_filled(unit)}, {group})")
        if unit.living and not unit.within:
            missed = shop.writer.keep("clear_missed", clear_missed)
            shop.writer.add(f"if n >= {number} and T[{number}] == {CLEAR!r}: {missed}(run, seg, node, {number})")


def clear_missed(run: Run, seg: Segment, node: Node, number: int) -> None:
    """Note a field that the sender clears, where the function that takes it says nothing anew under its slot."""
    if f"{seg.name}-{number}" not in (node.slots or {}):
        run.find("clear-not-carried", str(number))


def _filled(unit: Unit) -> str:
    return "node" if unit.living and not unit.within else "o"


def _first_alone(row: Row) -> bool:
    name = row.line.values.get("as")
    if "const" in row.line.values or "ref" in row.line.values:
        return False
    if name is not None:
        return name in FUNCTIONS and FUNCTIONS[name].kind == "text"
    return row.leaf not in {"string", "markdown"}


def elsewhere(unit: Unit, shop: Shop, row: Row) -> bool:
    """Say whether another row of the segment carries the field of `row` too."""
    if row.source is None:
        return False
    short = [
        line
        for other in shop.units.values()
        if other.root == unit.root
        for line in other.rows
        if {"reps", "const", "ref", "drop"} & set(line.values)
    ]
    return _elsewhere(unit, shop, row.source.number or 0, but=short)


def _elsewhere(unit: Unit, shop: Shop, number: int, but: Sequence[Line] = ()) -> bool:
    """Say whether another row takes the field without a condition, in this map or another of the segment."""
    for other in shop.units.values():
        if other is not unit and (other.root != unit.root or other.name not in shop.together.get(unit.name, ())):
            continue
        for line in other.rows:
            if line in but:
                continue
            sources = line.values.get("from") or []
            texts = [str(text) for text in (sources if isinstance(sources, list) else [sources])]
            if "when" not in line.values and any(re.fullmatch(rf"{unit.root}-{number}(\W.*)?", text) for text in texts):
                return True
    return False


def note_components(unit: Unit, writer: Writer, rows: Sequence[Row]) -> None:
    """Write the checks of a data type's components, where a condition stands at each of their rows."""
    from mappings.engine.emit import component_term

    by_number: dict[int, list[Row]] = {}
    for row in rows:
        for number in row.covers:
            by_number.setdefault(number, []).append(row)
    for number, mine in sorted(by_number.items()):
        if any("when" not in row.line.values for row in mine):
            continue
        conditions = dict.fromkeys(codegen.condition(row.line, component_term(unit)) for row in mine)
        test = " or ".join(f"({text})" for text in conditions)
        writer.add(f"if n >= {number} and part(c, {number}) and not ({test}): run.find('outranked', at + '.{number}')")
