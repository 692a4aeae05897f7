"""The body of a segment map's generated function: a field at a time, each read once."""

from __future__ import annotations

from functools import partial
from typing import Any

from mappings.engine import codegen
from mappings.engine.codegen import Row, Unit, Writer, identifier, nested, wrap_inner
from mappings.engine.conditions import Reference
from mappings.engine.elements import resolve
from mappings.engine.emit import (
    Put,
    Shop,
    field_term,
    guarded,
    neighbour,
    place_of,
    put_dict,
    resolved,
    step_down,
    write_value,
)
from mappings.engine.errors import Mistake, nearest
from mappings.engine.outranked import elsewhere, note_excess, note_excess_of, note_field, note_rest, note_whole
from mappings.engine.protocols import CLEAR
from mappings.engine.registry import FUNCTIONS


def segment(unit: Unit, shop: Shop) -> str:
    """Write the function of a segment's map; return its source."""
    writer, problems = shop.writer, shop.problems
    writer.add("f = seg.field; T = seg.texts; n = len(T) - 1; M = run.recall.groups; K = run.marks")
    if unit.within:
        writer.add("o = {}")
    elif not unit.living:
        writer.add("o = node.resource")
    fields: dict[tuple[str, int], list[Row]] = {}
    for order, row in enumerate(resolved(unit, problems)):
        unit.covers |= row.covers
        plain = row.source is not None and row.source.number is not None and "drop" not in row.line.values
        plain = plain and not isinstance(row.line.values.get("from"), list)
        key = (row.source.root, row.source.number) if plain else (f"~{order}", 0)
        fields.setdefault(key, []).append(row)
    groups: list[str] = []
    for key, rows in fields.items():
        step_down(writer, key[1] if key[0] == unit.root else None, _STEPS)
        guarded(problems, rows[0].line, partial(_field, unit, shop, rows, groups))
    writer.depth = 1
    if unit.within:
        steps = resolve(unit.head.values["to"], unit.within)
        # An extension that has its url alone says nothing.
        writer.add("if len(o) > 1 or (o and 'url' not in o):")
        value = "[o]" if steps[-1].many else "o"
        writer.add(f"    node.say({unit.head.values.get('slot', unit.root)!r}, {unit.within!r}, {value})")
    name = identifier(unit.name)
    again = unit.living and len(unit.rows) >= _MANY
    if unit.within or not unit.head.values.get("cached", again):
        return "\n".join([*groups, f"def {name}(seg, run, node):", *writer.lines])
    return "\n".join([
        *groups, f"def {name}_plain(seg, run, node):", *writer.lines,
        f"def {name}(seg, run, node):",
        f"    once({next(shop.groups)}, {name}_plain, seg, run, node)",
    ])  # fmt: skip


_STEPS = (9, 15, 23, 31)
_MANY = 12
"""Rows of a map that costs more to speak than to be learned as a whole."""


def _field(unit: Unit, shop: Shop, rows: list[Row], groups: list[str]) -> None:
    writer = shop.writer
    base = writer.depth
    ref = rows[0].source
    if "drop" in rows[0].line.values:
        return
    if ref is None or ref.number is None or isinstance(rows[0].line.values.get("from"), list):
        for row in rows:
            _whole_row(unit, shop, row)
            writer.depth = base
        return
    if ref.root != unit.root:
        _ask_first(unit, writer, rows)
        writer.add(f"v = field_of({neighbour(ref)}, {ref.number})")
    elif (puts := _learnable(unit, rows)) is not None:
        groups.append(_group(unit, shop, rows, ref.number))
        _say(unit, shop, ref.number, puts)
        return
    else:
        writer.add(f"v = f({ref.number}) if n >= {ref.number} else None")
    _field_rows(unit, shop, rows)
    writer.depth = base


def _ask_first(unit: Unit, writer: Writer, rows: list[Row]) -> None:
    """Ask the rows' conditions before another segment is looked for, where all of them have one."""
    asked = [codegen.condition(row.line, field_term(unit.root)) for row in rows]
    if all(asked):
        writer.add(f"if {' or '.join(dict.fromkeys(asked))}:")
        writer.depth += 1


def _learnable(unit: Unit, rows: list[Row]) -> dict[str, bool] | None:
    """Return the elements that a field's rows set and which are lists; None where more than its text plays a part."""
    puts: dict[str, bool] = {}
    number = rows[0].source.number if rows[0].source else None
    for row in rows:
        if "ref" in row.line.values or not all(r.root == unit.root and r.number == number for r in _asked(unit, row)):
            return None
        if unit.living and not unit.within:
            continue
        constants = nested_paths(unit, row.line.values.get("set") or {}) if not row.many else []
        names = [(row.path, row.many), *((path, isinstance(value, list)) for path, value in constants)]
        if "table" in row.line.values and row.leaf == "code":
            names.append((f"_{row.path}", False))
        for path, many in names:
            # A nested element is shared with other rows, and a constant list is not appended to twice.
            if (
                "." in path
                or not path
                or row.indexed is not None
                or (many and not row.many)
                or puts.get(path, many) != many
            ):
                return None
            puts[path] = many
    return puts


def _asked(unit: Unit, row: Row) -> list[Reference]:
    """Return the fields that a row's condition asks for."""
    asked: list[Reference] = []

    def term(ref: Reference, what: str) -> str:
        asked.append(ref)
        return field_term(unit.root)(ref, what)

    codegen.condition(row.line, term)
    return asked


def _group(unit: Unit, shop: Shop, rows: list[Row], number: int) -> str:
    """Return the source of a function for a field's rows."""
    writer, lines, depth = shop.writer, shop.writer.lines, shop.writer.depth
    writer.lines, writer.depth = [], 1
    try:
        writer.add(f"v = seg.field({number})")
        _field_rows(unit, shop, rows)
        return "\n".join([f"def g_{identifier(unit.name)}_{number}(seg, run, node, o):", *writer.lines])
    finally:
        writer.lines, writer.depth = lines, depth


def _say(unit: Unit, shop: Shop, number: int, puts: dict[str, bool]) -> None:
    """Write the call of a group: what its text said before is put at once."""
    writer, group = shop.writer, next(shop.groups)
    living = unit.living and not unit.within
    writer.add(f"if n >= {number} and (t := T[{number}]):")
    writer.add(f"    h = M[{group}].get(t)")
    call = f"g_{identifier(unit.name)}_{number}"
    writer.add(
        f"    if h.__class__ is not dict: h = say({group}, t, h, {call}, seg, run, node, {'None' if living else 'o'})"
    )
    if living:
        writer.add("    if h: node.tell(h)")
    elif not any(puts.values()):
        writer.add("    if h: o.update(h)")
    else:
        writer.add("    if h:")
        for path, many in puts.items():
            kept = f"[*o[{path!r}], *h[{path!r}]] if {path!r} in o else [*h[{path!r}]]" if many else f"h[{path!r}]"
            writer.add(f"        if {path!r} in h: o[{path!r}] = {kept}")


def _field_rows(unit: Unit, shop: Shop, rows: list[Row]) -> None:
    """Write what a field's rows do with its value `v`."""
    writer = shop.writer
    base = writer.depth
    writer.add("if v:")
    writer.depth += 1
    body = writer.depth
    writer.add("w = v[0][0] if v[0] else None")
    writer.add(f"if w and w[0] == {CLEAR!r} and len(v) == 1 and nulled(v[0]):")
    writer.depth += 1
    for row in rows:
        _clear(unit, writer, row)
    writer.depth = body
    writer.add("else:")
    writer.depth += 1
    inner = writer.depth
    for row in rows:
        _field_row(unit, shop, row)
        writer.depth = inner
    ref = rows[0].source
    if ref is not None and ref.number and ref.root == unit.root:
        note_field(unit, shop, rows, ref.number)
        note_rest(unit, shop, rows, ref.number)
        note_excess(unit, shop, ref.number)
    writer.depth = base


def _slot(unit: Unit, row: Row) -> str:
    slot = row.line.values.get("slot")
    if slot:
        return str(slot)
    if row.source is None or "ref" in row.line.values:
        return f"~{unit.root}" if "const" in row.line.values else unit.root
    return row.source.text.split(".")[0].split("[")[0]


def _clear(unit: Unit, writer: Writer, row: Row) -> None:
    if unit.within or not row.said or row.line.values.get("reps") == "further":
        writer.add("pass")
        return
    when = codegen.condition(row.line, field_term(unit.root))
    path = row.path.replace("_", "")
    writer.add(f"{f'if {when}: ' if when else ''}node.clear({_slot(unit, row)!r}, {path!r})")


def _field_row(unit: Unit, shop: Shop, row: Row) -> None:
    writer = shop.writer
    when = codegen.condition(row.line, field_term(unit.root))
    if when:
        writer.add(f"if {when}:")
        writer.depth += 1
    assert row.source is not None  # noqa: S101 - the caller groups by it
    if row.source.rep:
        writer.add(f"for c in v[{row.source.rep - 1}:{row.source.rep}]:")
    elif row.line.values.get("reps") == "further":
        writer.add("for c in v[1:]:")
    elif row.many or row.line.values.get("reps") == "all":
        writer.add("for c in v:")
    else:
        meant = row.line.values.get("reps") == "first"
        if (
            "ref" not in row.line.values
            and "const" not in row.line.values
            and not (meant and (_goes_on(unit, row) or elsewhere(unit, shop, row)))
        ):
            place = place_of(unit, row.source, None, None)
            severity = ", 'information'" if meant else ""
            writer.add(f"if len(v) > 1: run.find('repetition-not-carried', {place}{severity})")
        writer.add("for c in v[:1]:")
    writer.depth += 1

    def put(row: Row, value: str) -> None:
        _put_row(unit, writer, row, value)

    _value_of_field(unit, shop, row, put)


def _goes_on(unit: Unit, row: Row) -> bool:
    """Say whether another row of the map takes the further repetitions of this one's field, when this one does."""
    same = ("from", "when")
    return any(
        line.values.get("reps") == "further" and all(line.values.get(key) == row.line.values.get(key) for key in same)
        for line in unit.rows
    )


def _value_of_field(unit: Unit, shop: Shop, row: Row, put: Put) -> None:
    name = row.line.values.get("as")
    if name in FUNCTIONS and FUNCTIONS[name].kind == "segment":
        raise Mistake(f"{name} takes a whole segment: write from: {unit.root}")
    write_value(unit, shop, row, put)


def _put_row(unit: Unit, writer: Writer, row: Row, value: str) -> None:
    constants = row.line.values.get("set") or {}
    if row.many:
        text = wrap_inner(row, value, {} if row.extension else constants)
        if unit.living and not unit.within:
            writer.add(f"node.say({_slot(unit, row)!r}, {row.path!r}, [{text}])")
        elif row.indexed is not None and row.inner:
            writer.add(f"element(o, {row.path!r}, {row.indexed}).update({text})")
        else:
            put_dict(writer, "o", row.path, True, text)
        return
    if unit.living and not unit.within:
        writer.add(f"node.say({_slot(unit, row)!r}, {row.path!r}, {value})")
        for path, constant in nested_paths(unit, constants):
            writer.add(f"node.say({_slot(unit, row)!r}, {path!r}, {constant!r})")
        return
    put_dict(writer, "o", row.path, False, value)
    for path, constant in nested_paths(unit, constants):
        writer.add(f"put(o, {path!r}, {constant!r})")


def nested_paths(unit: Unit, constants: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the constants of a row without a list: paths from the resource, each up to its first list."""
    result = []
    for path, value in nested(unit.type, constants).items():
        result.append((path, value))
    return result


def _whole_row(unit: Unit, shop: Shop, row: Row) -> None:
    writer = shop.writer
    when = codegen.condition(row.line, field_term(unit.root))
    if when:
        note_whole(unit, shop, row, when)
        writer.add(f"if {when}:")
        writer.depth += 1
    name = row.line.values.get("as")
    if name in FUNCTIONS and FUNCTIONS[name].kind == "segment":
        call = writer.keep(f"f_{name}", FUNCTIONS[name].call)
        writer.add(f"{call}(seg, run, {'node' if unit.living and not unit.within else 'o'})")
        note_excess_of(unit, shop, row)
        return
    if name is not None:
        raise Mistake(
            f"no segment function {name}{nearest(str(name), [n for n, f in FUNCTIONS.items() if f.kind == 'segment'])}"
        )

    def put(row: Row, value: str) -> None:
        _put_row(unit, writer, row, value)

    write_value(unit, shop, row, put)
