"""A whole view as one SELECT for Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from mappings.engine.views import fragments as f
from mappings.engine.views import moments
from mappings.engine.views.definition import Column, Definition, Select
from mappings.engine.views.elements import NUMERIC, TEMPORAL, TEXTUAL
from mappings.engine.views.errors import ViewError
from mappings.engine.views.expressions import Here, expression
from mappings.engine.views.fragments import Fragment, Items, Path
from mappings.engine.views.nodes import Node
from mappings.engine.views.quoting import literal, name

_ANSI = {
    "CHARACTER VARYING": "text", "CHARACTER": "text", "TEXT": "text", "BOOLEAN": "boolean", "INTEGER": "integer",
    "INT": "integer", "SMALLINT": "integer", "BIGINT": "bigint", "NUMERIC": "numeric", "DECIMAL": "numeric",
    "DATE": "date", "TIMESTAMP": "timestamptz", "TIMESTAMP WITH TIME ZONE": "timestamptz", "TIME": "time",
}  # fmt: skip
_TEXT = TEXTUAL | TEMPORAL | {"xhtml"}


def column_type(column: Column) -> str:
    """Return the Postgres type of a column: by its `ansi/type` where it has one, else by its FHIR type.

    Dates and times stay the text that was sent unless `ansi/type` says otherwise; lists and complex values are jsonb.
    Raises `ViewError` for an `ansi/type` that is not known.
    """
    if column.collection:
        return "jsonb"
    if column.ansi:
        kind = _ANSI.get(column.ansi.split("(")[0].strip())
        if kind is None:
            raise ViewError(f"{column.place}.tag", f"ansi/type {column.ansi!r} is not one of {', '.join(_ANSI)}")
        return kind
    if column.type in _TEXT:
        return "text"
    if column.type in NUMERIC - {"decimal"}:
        return "bigint" if column.type == "integer64" else "integer"
    return {"decimal": "numeric", "boolean": "boolean"}.get(column.type or "", "jsonb")


def view_sql(definition: Definition, source: str, extra: Iterable[str]) -> str:
    """Return the SELECT over `source`; raises `ViewError` for what Postgres cannot hold."""
    here = Here("r.resource", "r.resource", "0", count())
    try:
        joins, cells = _select(definition.select, here, lift=_iterates(definition.select))
        named = [f"r.{name(column)}" for column in extra]
        named += [f"{cell} AS {name(key)}" for key, cell in cells]
        tests = [f"r.resource_type = {literal(definition.resource)}"]
        tests += [_condition(place, node, here) for place, node in definition.where]
    except ValueError as error:
        if isinstance(error, ViewError):
            raise
        raise ViewError("ViewDefinition", str(error)) from None
    return "\n".join([f"SELECT {', '.join(named)}", f"FROM {source} AS r", *joins, f"WHERE {' AND '.join(tests)}"])


def _condition(place: str, node: Node, here: Here) -> str:
    return f.strict_truth(
        expression(node, here), f"{place}: a condition must be boolean, and this path gives something else"
    )


Cells = list[tuple[str, str]]


def _iterates(select: Select) -> bool:
    return bool(select.over or select.union) or any(_iterates(inner) for inner in select.selects)


def _select(select: Select, here: Here, *, lift: bool = False) -> tuple[list[str], Cells]:
    """Return the joins that a select adds and its cells, in order.

    With `lift` what stands outside of an iteration is worked out once a resource, not once a row of it: a resource
    with 10,000 components would be read as often for every such column.
    """
    joins: list[str] = []
    if select.over:
        join, here = _iterate(select, here)
        joins.append(join)
    cells = [(column.name, _cell(column, here)) for column in select.columns]
    if lift and cells and not select.over:
        row = here.fresh("c")
        values = ", ".join(f"{cell} AS {name(key)}" for key, cell in cells)
        joins.append(f"CROSS JOIN LATERAL (SELECT {values} OFFSET 0) AS {row}")
        cells = [(key, f"{row}.{name(key)}") for key, _ in cells]
    for inner in select.selects:
        more, found = _select(inner, here, lift=lift and not select.over)
        joins += more
        cells += found
    if select.union:
        join, found = _union(select, here)
        joins.append(join)
        cells += found
    return joins, cells


def _iterate(select: Select, here: Here) -> tuple[str, Here]:
    row = here.fresh("f")
    if select.repeat:
        join = f"CROSS JOIN LATERAL {_repeat(select.over, here)} AS {row}(item, ord)"
    elif select.or_null:
        join = f"LEFT JOIN LATERAL {_rows(select.over[0], here, row)} ON true"
    else:
        join = f"CROSS JOIN LATERAL {_rows(select.over[0], here, row)}"
    index = f"coalesce({row}.ord - 1, 0)" if select.or_null else f"({row}.ord - 1)"
    return join, here.at(f"{row}.item", index)


def _rows(node: Node, here: Here, row: str) -> str:
    piece = expression(node, here)
    if isinstance(piece, Path):
        return f"jsonb_path_query({piece.start}, {piece.whole}) WITH ORDINALITY AS {row}(item, ord)"
    if isinstance(piece, Items):
        return f"jsonb_array_elements({piece.text}) WITH ORDINALITY AS {row}(item, ord)"
    value = f.jsonb(piece)
    return f"(SELECT s.v, 1::bigint FROM (SELECT {value} AS v OFFSET 0) AS s WHERE s.v IS NOT NULL) AS {row}(item, ord)"


def _repeat(paths: tuple[Node, ...], here: Here) -> str:
    """Return the items at any depth, each before its children, with their place in that order."""
    walk = here.fresh("w")
    roots, children = (_branches(paths, here.at(item)) for item in (here.item, f"{walk}.item"))
    return (
        f"(WITH RECURSIVE {walk}(item, place) AS ("
        f"SELECT c.item, ARRAY[c.k, c.ord] FROM ({roots}) AS c(k, item, ord) UNION ALL "
        f"SELECT c.item, {walk}.place || ARRAY[c.k, c.ord] "
        f"FROM {walk} CROSS JOIN LATERAL ({children}) AS c(k, item, ord)) "
        f"SELECT {walk}.item, row_number() OVER (ORDER BY {walk}.place) FROM {walk})"
    )


def _branches(paths: tuple[Node, ...], here: Here) -> str:
    selects = []
    for i, path in enumerate(paths):
        row = here.fresh("b")
        selects.append(f"SELECT {i}::bigint, {row}.item, {row}.ord FROM {_rows(path, here, row)}")
    return " UNION ALL ".join(selects)


def _union(select: Select, here: Here) -> tuple[str, Cells]:
    row = here.fresh("u")
    branches = []
    for branch in select.union:
        joins, cells = _select(branch, here)
        values = ", ".join(f"{cell} AS {name(key)}" for key, cell in cells)
        branches.append(" ".join([f"SELECT {values} FROM (SELECT) AS {here.fresh('o')}", *joins]))
    _check_types(select)
    names = [column.name for column in select.union[0].all_columns()]
    join = f"CROSS JOIN LATERAL ({' UNION ALL '.join(branches)}) AS {row}"
    return join, [(key, f"{row}.{name(key)}") for key in names]


def _check_types(select: Select) -> None:
    first = [column_type(column) for column in select.union[0].all_columns()]
    for branch in select.union[1:]:
        for column, kind in zip(branch.all_columns(), first, strict=True):
            if column_type(column) != kind:
                raise ViewError(
                    column.place, f"column {column.name!r} is {column_type(column)}, and {kind} in the first branch"
                )


def _cell(column: Column, here: Here) -> str:
    piece = expression(column.node, here)
    if column.collection:
        return f"coalesce({f.items(piece)}, '[]'::jsonb)"
    reason = f"{column.place}: column '{column.name}': path '{column.path}' {f.MANY}"
    return _CASTS[column_type(column)](piece, reason)


def _text(piece: Fragment, reason: str) -> str:
    if isinstance(piece, f.Text):
        return piece.text
    if isinstance(piece, f.Bool | f.Number):
        return f"({piece.text})::text"
    return f"({f.jsonb(piece, reason)} #>> '{{}}')"


def _whole(kind: str, limit: int) -> str:
    return f"CASE WHEN {{0}} = trunc({{0}}) AND abs({{0}}) <= {limit} THEN ({{0}})::{kind} END"


_INTEGER, _BIGINT = _whole("integer", 2**31 - 1), _whole("bigint", 2**63 - 1)
_CASTS: dict[str, Callable[[Fragment, str], str]] = {
    "text": _text,
    "jsonb": f.jsonb,
    "boolean": f.boolean,
    "numeric": f.number,
    "integer": lambda piece, reason: f.bound(f.number(piece, reason), _INTEGER.format),
    "bigint": lambda piece, reason: f.bound(f.number(piece, reason), _BIGINT.format),
    "date": lambda piece, reason: moments.date(_text(piece, reason)),
    "timestamptz": lambda piece, reason: moments.timestamp(_text(piece, reason)),
    "time": lambda piece, reason: moments.time(_text(piece, reason)),
}
