"""The body of a data type map's generated function, and what a segment map's body shares with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from mappings.engine import codegen
from mappings.engine.codegen import Row, Unit, Writer, identifier, row_of, wrap_extension, wrap_inner
from mappings.engine.conditions import Reference
from mappings.engine.errors import Mistake, nearest
from mappings.engine.outranked import note_components
from mappings.engine.protocols import CLEAR
from mappings.engine.registry import FUNCTIONS
from mappings.engine.source import Line

Put = Callable[[Row, str], None]


@dataclass(frozen=True, slots=True)
class Shop:
    """What a map is written with: the other maps, the code tables, where lines and problems go."""

    units: dict[str, Unit]
    tables: dict[str, Any]
    writer: Writer
    problems: list[str]
    groups: Iterator[int]
    """Numbers for the groups of rows that are remembered by their field's text."""
    together: dict[str, frozenset[str]]
    """For each segment map the maps that stand beside it in every message."""


def field_term(name: str) -> Callable[[Reference, str], str]:
    """Return how the conditions of a segment's rows read a field, of this segment or of the nearest of another name."""

    def term(ref: Reference, asked: str) -> str:
        own = ref.root == name
        return _field_term(ref, asked, "seg" if own else neighbour(ref), own)

    return term


def neighbour(ref: Reference) -> str:
    """Return what finds the segment of another name that a row asks; the event is the whole message's."""
    return "run.header" if (ref.root, ref.number) == ("MSH", 9) else f"run.scope.segment({ref.root!r})"


def _field_term(ref: Reference, asked: str, segment: str, own: bool) -> str:
    if ref.number is None:
        return f"({segment} is not None)"
    rep, comp, sub = ref.rep or 1, ref.comp or 1, ref.sub or 1
    whole = ref.comp is None and ref.rep is None
    if asked == "count":
        return f"count_of({segment}, {ref.number})"
    if asked == "valued" and whole:
        return f"valued({segment}, {ref.number})"
    if not own:
        return f"value_of({segment}, {ref.number}, {rep}, {comp}, {sub})"
    if asked == "valued":
        return f"(seg.value({ref.number}, {rep}, {comp}, {sub}) not in EMPTY)"
    return f"seg.value({ref.number}, {rep}, {comp}, {sub})"


def component_term(unit: Unit) -> Callable[[Reference, str], str]:
    """Return how a data type map's conditions read a component."""

    def term(ref: Reference, asked: str) -> str:
        if ref.root != unit.root or ref.number is None:
            raise Mistake(f"{ref.text} is not of {unit.root}: write {unit.root}.n")
        if asked == "count":
            raise Mistake("a component has no COUNT")
        text = f"part(c, {ref.number}, {ref.rep or ref.comp or 1})"
        return f"bool({text})" if asked == "valued" else text

    return term


def datatype(unit: Unit, shop: Shop) -> str:
    """Write the function of a data type's map; return its source."""
    writer, problems = shop.writer, shop.problems
    add = writer.add
    add("n = len(c)")
    if unit.resource:
        add(f"key = keys[{unit.name!r}](c, run, at)")
        add("if key is None:")
        add("    return None")
        add(f"node = run.named({unit.type!r}, key)")
    else:
        add("o = {}")
    indexed: dict[str, tuple[str, str]] = {}
    rows = list(resolved(unit, problems))
    for row in rows:
        unit.covers |= row.covers
        if row.many and row.inner and not unit.resource:
            path = f"{row.path}[{row.indexed or 1}]"
            if path not in indexed:
                indexed[path] = (writer.fresh("e"), row.path)
                add(f"{indexed[path][0]} = {{}}")
    last = [row for row in rows if "to" not in row.line.values]
    for row in rows:
        if row not in last:
            step_down(writer, row.source.number if row.source else None, _STEPS)
            guarded(problems, row.line, partial(_component_row, unit, shop, row, indexed))
    writer.depth = 1
    for name, path in indexed.values():
        add(f"if {name}:")
        writer.depth = 2
        put_dict(writer, "o", path, True, name)
        writer.depth = 1
    for row in last:
        guarded(problems, row.line, partial(_component_row, unit, shop, row, indexed))
    note_components(unit, writer, rows)
    known = frozenset(unit.covers)
    gap = next((i for i in range(1, 64) if i not in known), 64)
    whole = any(row.source and row.source.number is None for row in rows)
    if known and not whole:
        add(f"if n >= {gap}:")
        add(f"    run.rest(c, {writer.keep('k_' + unit.name, known)}, at)")
    add("return node.pointer()" if unit.resource else "return o or None")
    name = identifier(unit.name)
    if not unit.head.values.get("cached"):
        return "\n".join([f"def {name}(c, run, at, table=None):", *writer.lines])
    return "\n".join([
        f"def {name}_plain(c, run, at, table=None):", *writer.lines,
        f"def {name}(c, run, at, table=None):",
        f"    return run.cached({unit.name!r}, c, at, table, {name}_plain)",
    ])  # fmt: skip


_STEPS = (4, 7, 10)


def step_down(writer: Writer, number: int | None, steps: tuple[int, ...]) -> None:
    """Indent what reads later components (or fields) under a check that there are so many: most have a few."""
    want = 1 + sum(number >= step for step in steps) if number else 1
    writer.depth = min(writer.depth, want)
    while writer.depth < want:
        writer.add(f"if n >= {steps[writer.depth - 1]}:")
        writer.depth += 1


def resolved(unit: Unit, problems: list[str]) -> Any:
    for line in unit.rows:
        try:
            yield row_of(unit, line)
        except Mistake as mistake:
            problems.append(line.problem(str(mistake)))


def guarded(problems: list[str], line: Line, work: Callable[[], None]) -> None:
    try:
        work()
    except Mistake as mistake:
        problems.append(line.problem(str(mistake)))


def _component_row(unit: Unit, shop: Shop, row: Row, indexed: dict[str, tuple[str, str]]) -> None:
    writer = shop.writer
    if "drop" in row.line.values:
        return
    depth = writer.depth
    when = codegen.condition(row.line, component_term(unit))
    if when:
        writer.add(f"if {when}:")
        writer.depth += 1
    if "to" not in row.line.values:
        _finish(writer, row.line)
        writer.depth = depth
        return

    def put(row: Row, value: str) -> None:
        if unit.resource:
            slot = row.line.values.get("slot") or (row.source.text if row.source else "~")
            text = wrap_inner(row, value, row.line.values.get("set", {})) if row.many else value
            writer.add(f"node.mention({slot!r}, {row.path!r}, {f'[{text}]' if row.many else text})")
        elif row.many and row.inner:
            _put_inner(writer, indexed[f"{row.path}[{row.indexed or 1}]"][0], row, value)
        elif not row.said:
            writer.add(f"return {value}")
        else:
            put_dict(writer, "o", row.path, row.many, value)

    write_value(unit, shop, row, put)
    writer.depth = depth


def _finish(writer: Writer, line: Line) -> None:
    name = str(line.values.get("as"))
    finishers = [known for known, function in FUNCTIONS.items() if function.kind == "finish"]
    if name not in finishers:
        raise Mistake(f"no function {name} that completes a value{nearest(name, finishers)}")
    guard = "if table is not None: " if FUNCTIONS[name].tabled else ""
    writer.add(f"{guard}{writer.keep(f'f_{name}', FUNCTIONS[name].call)}(c, run, at, table, o)")


def _put_inner(writer: Writer, target: str, row: Row, value: str) -> None:
    node = target
    for step in row.inner[:-1]:
        node = f"{node}.setdefault({step.name!r}, {'[{}]' if step.many else '{}'})" + ("[0]" if step.many else "")
    last = row.inner[-1]
    if last.many:
        writer.add(f"{node}.setdefault({last.name!r}, []).append({value})")
    else:
        writer.add(f"{node}[{last.name!r}] = {value}")
    for key, constant in (row.line.values.get("set") or {}).items():
        writer.add(f"put({target}, {key!r}, {constant!r})")


def put_dict(writer: Writer, target: str, path: str, many: bool, value: str) -> None:
    """Write what sets a value at a path of a resource under construction, or appends it there.

    On the way down nothing is changed in place: another row may have put there what messages share.
    """
    *parents, last = path.split(".")
    if parents:
        target = f"within({target}, {parents!r})"
    if not many:
        writer.add(f"{target}[{last!r}] = {value}")
    elif parents:
        writer.add(f"append({target}, {last!r}, {value})")
    else:
        writer.add(f"{target}.setdefault({last!r}, []).append({value})")


def write_value(unit: Unit, shop: Shop, row: Row, put: Put) -> None:
    """Write what reads and converts a row's value from the components `c`, then puts it."""
    writer = shop.writer
    values = row.line.values
    size = "len(c)" if unit.segment else "n"
    ref = row.source
    number = None if ref is None else (ref.comp if unit.segment else ref.number)
    sub = None if ref is None else (ref.sub if unit.segment else ref.comp)
    at = place_of(unit, ref, number, sub)
    if "const" in values and ref is None:
        for constant in _constants(row):
            put(row, repr(constant))
        return
    if "ref" in values:
        writer.add(f"y = run.reference({values['ref']!r})")
        writer.add("if y is not None:")
        writer.depth += 1
        put(row, "y")
        return
    if "const" in values:
        _text(writer, size, number, sub)
        for constant in _constants(row):
            put(row, repr(constant))
        return
    kind, call = codegen.convert(writer, shop.units, shop.tables, row)
    if kind == "composite" and number is None:
        writer.add(f"y = {call.format(s='c', at=at)}")
    elif kind == "composite" and number is not None:
        writer.add(f"if {size} >= {number} and c[{number - 1}]:")
        writer.depth += 1
        writer.add(f"y = {call.format(s=f'[[x] for x in c[{number - 1}]]', at=at)}")
    else:
        _text(writer, size, number, sub, whole=row.leaf in {"string", "markdown"})
        writer.add(f"y = {call.format(s='s', at=at)}")
    writer.add("if y is not None:" if call != "{s}.strip()" else "if y:")
    writer.depth += 1
    for key, constant in (values.get("default") or {}).items():
        # A code that has no counterpart is kept beside the element: the default must not contradict it.
        writer.add(f"if {f'_{key}'!r} not in y: y.setdefault({key!r}, {constant!r})")
    put(row, wrap_extension(row, "y") if row.extension else "y")
    _alternate(writer, row, put)


def _alternate(writer: Writer, row: Row, put: Put) -> None:
    """Keep a code that is not in its table beside the element that it has no value for."""
    path = [*row.said, *row.inner]
    if "table" not in row.line.values or row.leaf != "code" or not path or path[-1].many or row.extension:
        return
    writer.depth -= 1
    writer.add("elif run.lost is not None:")
    writer.depth += 1
    last = replace(path[-1], name=f"_{path[-1].name}", type="Element")
    said, inner = (row.said, [*row.inner[:-1], last]) if row.inner else ([*row.said[:-1], last], [])
    put(
        replace(
            row,
            said=said,
            inner=inner,
            line=Line(
                row.line.file,
                row.line.number,
                {key: value for key, value in row.line.values.items() if key not in {"set", "default"}},
            ),
        ),
        "run.take_lost()",
    )


def _constants(row: Row) -> list[Any]:
    constant = row.line.values["const"]
    return constant if isinstance(constant, list) and row.said and (row.said + row.inner)[-1].many else [constant]


def place_of(unit: Unit, ref: Reference | None, number: int | None, sub: int | None) -> str:
    if ref is None:
        return "''" if unit.segment else "at"
    tail = "".join(f".{part}" for part in (number, sub) if part)
    if unit.segment:
        return repr(f"{ref.number}{tail}" if ref.root == unit.root else f"{ref.root}-{ref.number}{tail}")
    return f"at + {tail!r}" if tail else "at"


def _text(writer: Writer, size: str, number: int | None, sub: int | None, whole: bool = False) -> None:
    """Write what reads a text into `s`: one (sub)component, or the whole field where its type is a text."""
    if number is None and whole:
        writer.add("s = whole(c)")
    else:
        at = (number or 1) - 1
        writer.add(f"x = c[{at}] if {size} > {at} else None")
        if sub:
            writer.add(f"s = x[{sub - 1}] if x and len(x) >= {sub} else None")
        else:
            writer.add("s = (x[0] if len(x) == 1 else joined(x)) if x else None")
    writer.add(f"if s and s != {CLEAR!r} and not s.isspace():")
    writer.depth += 1
