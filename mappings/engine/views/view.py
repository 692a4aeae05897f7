"""A compiled view: rows in process, SQL for Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import product
from typing import Any

from mappings.engine.views.cells import fit, whole_class
from mappings.engine.views.closures import Environment, compile_items, compile_scalar
from mappings.engine.views.definition import Column, Definition, Select, read_definition
from mappings.engine.views.errors import ViewError
from mappings.engine.views.functions import Items, ManyItems
from mappings.engine.views.resolve import Unknown

Row = tuple[Any, ...]
Rows = Callable[[Any, Environment], list[Row]]


class View:
    """A ViewDefinition, ready to run.

    - `name`, `resource` and `description` are the definition's.
    - `columns` are its columns in order: name, type, collection, description.
    - `unknown` are the elements that its paths name and FHIR R4 does not have: they give nothing, and a person may
      have mistyped them; its resource type too, where that is nearly one.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.name = definition.name
        self.resource = definition.resource
        self.description = definition.description
        self.columns: tuple[Column, ...] = definition.select.all_columns()
        self.unknown: tuple[Unknown, ...] = tuple(dict.fromkeys(definition.scope.unknown))

    @cached_property
    def _compiled(self) -> tuple[list[tuple[str, Callable[[Any, Environment], Items]]], Rows]:
        tests = [(place, compile_items(node)) for place, node in self.definition.where]
        return tests, _rows(self.definition.select)

    def rows(self, resources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the rows of those resources that are of the view's type, as `{column: value}` in the columns' order.

        Raises `ViewError` where a resource gives more than one value for a column that is no collection.
        """
        tests, rows = self._compiled
        names = [column.name for column in self.columns]
        wanted = self.resource
        for resource in resources:
            if resource.get("resourceType") != wanted:
                continue
            environment = (resource, 0)
            if all(_holds(place, test, resource, environment) for place, test in tests):
                for row in rows(resource, environment):
                    yield dict(zip(names, row))  # noqa: B905 - as many by construction, and this is the hot path

    def sql(self, source: str, extra: Iterable[str] = ()) -> str:
        """Return the SELECT over the relation `source` (resource_type text, id text, resource jsonb, …).

        `extra` are columns of the relation that are selected through, before the view's own. `source` is SQL: a
        relation's name or a subquery in brackets, written by the caller and never taken from a view.
        """
        from mappings.engine.views.postgres import view_sql

        return view_sql(self.definition, source, tuple(extra))


def compile_view(view: dict[str, Any]) -> View:
    """Return the compiled form of a ViewDefinition; raises `ViewError` that names the place and the reason."""
    return View(read_definition(view))


def _holds(place: str, test: Callable[[Any, Environment], Items], resource: Any, environment: Environment) -> bool:
    found = _guarded(test, place)(resource, environment)
    if len(found) > 1 or (found and not isinstance(found[0], bool)):
        raise ViewError(place, "a condition must be boolean, and this path gives something else")
    return bool(found and found[0])


def _guarded(work: Callable[[Any, Environment], Any], place: str) -> Callable[[Any, Environment], Any]:
    def run(this: Any, environment: Environment) -> Any:
        try:
            return work(this, environment)
        except ManyItems as error:
            raise ViewError(place, str(error)) from None

    return run


def _rows(select: Select) -> Rows:
    body = _body(select)
    if not select.over:
        return body
    if select.repeat:
        return _repeated([compile_items(node) for node in select.over], body)
    return _iterated(compile_items(select.over[0]), body, select.or_null)


def _iterated(items: Callable[[Any, Environment], Items], body: Rows, or_null: bool) -> Rows:
    def run(this: Any, environment: Environment) -> list[Row]:
        found = items(this, environment)
        if not found:
            return body(None, (environment[0], 0)) if or_null else []
        resource = environment[0]
        return [row for index, item in enumerate(found) for row in body(item, (resource, index))]

    return run


def _repeated(paths: list[Callable[[Any, Environment], Items]], body: Rows) -> Rows:
    def run(this: Any, environment: Environment) -> list[Row]:
        found: list[Row] = []
        waiting = [item for path in reversed(paths) for item in reversed(path(this, environment))]
        index = 0
        while waiting:
            item = waiting.pop()
            found.extend(body(item, (environment[0], index)))
            index += 1
            waiting.extend(child for path in reversed(paths) for child in reversed(path(item, environment)))
        return found

    return run


def _body(select: Select) -> Rows:
    cells = _cells(select.columns)
    joined = [_rows(inner) for inner in select.selects]
    if select.union:
        joined.append(_union([_rows(branch) for branch in select.union]))
    if not joined:
        return lambda this, environment: [cells(this, environment)]
    if not select.columns and len(joined) == 1:
        return joined[0]

    def run(this: Any, environment: Environment) -> list[Row]:
        parts = []
        for part in joined:
            rows = part(this, environment)
            if not rows:
                return rows
            parts.append(rows)
        own = cells(this, environment)
        return [sum(rows, own) for rows in product(*parts)]

    return run


def _union(branches: list[Rows]) -> Rows:
    return lambda this, environment: [row for branch in branches for row in branch(this, environment)]


def _cells(columns: tuple[Column, ...]) -> Callable[[Any, Environment], Row]:
    """Return the closure that makes a row of own columns; which one has too many values is found only when one has."""
    cells = [_cell(column) for column in columns]

    def run(this: Any, environment: Environment) -> Row:
        try:
            return tuple([cell(this, environment) for cell in cells])
        except ManyItems:
            for column, cell in zip(columns, cells, strict=True):
                _explain(column, cell, this, environment)
            raise

    return run


def _explain(column: Column, cell: Callable[[Any, Environment], Any], this: Any, environment: Environment) -> None:
    try:
        cell(this, environment)
    except ManyItems as error:
        raise ViewError(column.place, f"column {column.name!r}: path {column.path!r} {error}") from None


def _cell(column: Column) -> Callable[[Any, Environment], Any]:
    fitting, at_once = fit(column.type), whole_class(column.type)
    if column.collection:
        items = compile_items(column.node)
        return lambda this, environment: [fitting(item) for item in items(this, environment)]
    scalar = compile_scalar(column.node)

    def run(this: Any, environment: Environment) -> Any:
        value = scalar(this, environment)
        return value if value is None or type(value) is at_once else fitting(value)

    return run
