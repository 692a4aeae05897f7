"""A ViewDefinition, checked and resolved: what both compilers start from.

Source: SQL on FHIR v2, ViewDefinition (`select`, `column`, `forEach`, `forEachOrNull`, `repeat`, `unionAll`, `where`,
`constant`) and its tags (`ansi/type`).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from mappings.engine.views.elements import NUMERIC, PRIMITIVE
from mappings.engine.views.errors import ViewError
from mappings.engine.views.nodes import Each, Empty, Filter, Focus, Function, Item, Literal, Member, Node, Operation
from mappings.engine.views.resolve import Scope

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_DEEPEST = 20
_EXTRAS = {"id", "extension", "modifierExtension"}
_SELECT = _EXTRAS | {"column", "select", "forEach", "forEachOrNull", "repeat", "unionAll"}
_COLUMN = _EXTRAS | {"name", "path", "description", "collection", "type", "tag"}
_VIEW = _EXTRAS | {
    "resourceType", "meta", "implicitRules", "language", "text", "contained", "url", "identifier", "version",
    "versionAlgorithmString", "versionAlgorithmCoding", "name", "title", "status", "experimental", "date", "publisher",
    "contact", "description", "useContext", "jurisdiction", "purpose", "copyright", "copyrightLabel", "profile",
    "fhirVersion", "resource", "resourceVersion", "constant", "select", "where",
}  # fmt: skip
_CONSTANTS = {
    f"value{kind}": kind[0].lower() + kind[1:]
    for kind in [
        "Base64Binary",
        "Boolean",
        "Canonical",
        "Code",
        "Date",
        "DateTime",
        "Decimal",
        "Id",
        "Instant",
        "Integer",
        "Integer64",
        "Oid",
        "String",
        "PositiveInt",
        "Time",
        "UnsignedInt",
        "Uri",
        "Url",
        "Uuid",
    ]
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a view.

    - `type` is the FHIR type, as the view says or as the path gives it; None where neither does.
    - `ansi` is the view's own word for the database's type, in capitals; empty where it has none.
    - `collection` says that a cell holds a list.
    - `indexed` says that its table wants an index on it (tag `sluice/index`), `key` that it is part of the table's key
      beside the resource's id (`sluice/key`), `partition` by what the table is divided on it (`sluice/partition`).
    """

    name: str
    type: str | None
    collection: bool
    description: str
    ansi: str
    indexed: bool
    key: bool
    partition: str
    path: str
    place: str
    node: Node


@dataclass(frozen=True, slots=True)
class Select:
    """One select: what it iterates over, its own columns, and what is joined to them.

    - `over` are the trees of `forEach` or `forEachOrNull` (one) or of `repeat` (several); empty without iteration.
    - `union` are the branches of `unionAll`.
    """

    columns: tuple[Column, ...] = ()
    selects: tuple[Select, ...] = ()
    union: tuple[Select, ...] = ()
    over: tuple[Node, ...] = ()
    or_null: bool = False
    repeat: bool = False

    def gives_one_row(self) -> bool:
        """Say whether an item gives one row, whatever it holds."""
        return not self.over and not self.union and all(inner.gives_one_row() for inner in self.selects)

    def all_columns(self) -> tuple[Column, ...]:
        """Return the columns in the order of the result: own, of selects, of the first branch of unionAll."""
        inner = [column for select in self.selects for column in select.all_columns()]
        return (*self.columns, *inner, *(self.union[0].all_columns() if self.union else ()))


@dataclass(frozen=True, slots=True)
class Definition:
    """A whole view: the resource type, the root select, and the conditions with their places."""

    name: str
    resource: str
    description: str
    select: Select
    where: tuple[tuple[str, Node], ...]
    scope: Scope


def read_definition(view: object) -> Definition:
    """Return the checked form of a ViewDefinition; raises `ViewError`."""
    view = _mapping(view, "ViewDefinition")
    _known(view, _VIEW, "ViewDefinition")
    resource = view.get("resource")
    if not isinstance(resource, str) or not NAME.fullmatch(resource):
        raise ViewError("resource", "the name of a resource type is wanted here")
    scope = Scope(resource, _constants(view.get("constant")))
    focus = Focus(resource, root=True)
    selects = _list(view.get("select"), "select")
    if not selects:
        raise ViewError("select", "a view needs at least one select")
    root = Select(selects=tuple(_select(one, f"select[{i}]", scope, focus, 1) for i, one in enumerate(selects)))
    _check_columns(root)
    conditions = tuple(
        (f"where[{i}].path", _condition(one, f"where[{i}]", scope, focus))
        for i, one in enumerate(_list(view.get("where"), "where"))
    )
    return Definition(
        str(view.get("name") or ""), resource, str(view.get("description") or ""), root, conditions, scope
    )


def _condition(where: object, place: str, scope: Scope, focus: Focus) -> Node:
    where = _mapping(where, place)
    _known(where, _EXTRAS | {"path", "description"}, place)
    node = scope.resolve(where.get("path"), f"{place}.path", focus)
    if node.type is not None and node.type != "boolean":
        raise ViewError(f"{place}.path", f"a condition must be boolean, and this path gives {node.type}")
    return node


def _select(select: object, place: str, scope: Scope, focus: Focus, depth: int) -> Select:
    select = _mapping(select, place)
    _known(select, _SELECT, place)
    if depth > _DEEPEST:
        raise ViewError(place, f"selects are nested more than {_DEEPEST} levels deep")
    over, or_null, repeat = _iteration(select, place, scope, focus)
    inner = Focus(over[0].type if len({node.type for node in over}) == 1 else None) if over else focus
    columns = tuple(
        _column(one, f"{place}.column[{i}]", scope, inner)
        for i, one in enumerate(_list(select.get("column"), f"{place}.column"))
    )
    selects, union = (
        tuple(
            _select(one, f"{place}.{key}[{i}]", scope, inner, depth + 1)
            for i, one in enumerate(_list(select.get(key), f"{place}.{key}"))
        )
        for key in ("select", "unionAll")
    )
    _check_union(union, f"{place}.unionAll")
    return Select(columns, selects, union, over, or_null, repeat)


def _iteration(
    select: Mapping[str, Any], place: str, scope: Scope, focus: Focus
) -> tuple[tuple[Node, ...], bool, bool]:
    given = [key for key in ("forEach", "forEachOrNull", "repeat") if key in select]
    if not given:
        return (), False, False
    if len(given) > 1:
        raise ViewError(place, f"{' and '.join(given)} exclude each other")
    key = given[0]
    if key != "repeat":
        return (scope.resolve(select[key], f"{place}.{key}", focus),), key == "forEachOrNull", False
    paths = _list(select[key], f"{place}.repeat")
    if not paths:
        raise ViewError(f"{place}.repeat", "at least one path is wanted here")
    return tuple(_repeated(path, f"{place}.repeat[{i}]", scope, focus) for i, path in enumerate(paths)), False, True


def _repeated(path: object, place: str, scope: Scope, focus: Focus) -> Node:
    """Resolve one path of `repeat`: typed where its items are of one type at every depth, else untyped."""
    first = scope.resolve(path, place, focus)
    if not _descends(first):
        raise ViewError(place, "a path of repeat must go down to elements of its item, or it would never end")
    before = len(scope.unknown)
    again = scope.resolve(path, place, Focus(first.type))
    del scope.unknown[before:]
    return scope.resolve(path, place, Focus(None)) if again.type != first.type or focus.type != first.type else first


def _descends(node: Node) -> bool:
    """Say whether all that a path gives lies below the item it starts from."""
    match node:
        case Member(base=base):
            return isinstance(base, Focus) or _descends(base)
        case Filter(base=base) | Item(base=base) | Function(name="distinct", base=base):
            return _descends(base)
        case Each(base=base, projection=projection):
            return _descends(base) and (isinstance(projection, Focus) or _descends(projection))
        case Operation(operator="|", left=left, right=right):
            return _descends(left) and _descends(right)
    return isinstance(node, Empty)


def _column(column: object, place: str, scope: Scope, focus: Focus) -> Column:
    column = _mapping(column, place)
    _known(column, _COLUMN, place)
    name = column.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ViewError(f"{place}.name", "a name of letters, digits and _ is wanted here, a letter first")
    collection = column.get("collection", False)
    if not isinstance(collection, bool):
        raise ViewError(f"{place}.collection", "true or false is wanted here")
    node = scope.resolve(column.get("path"), f"{place}.path", focus)
    kind = _column_type(column.get("type"), node, place)
    tags = _tags(column, place)
    return Column(
        name=name,
        type=kind,
        collection=collection,
        description=str(column.get("description") or ""),
        ansi=tags.get("ansi/type", "").upper(),
        indexed="sluice/index" in tags,
        key="sluice/key" in tags,
        partition=tags.get("sluice/partition", ""),
        path=str(column["path"]),
        place=place,
        node=node,
    )


def _column_type(given: object, node: Node, place: str) -> str | None:
    if given is None:
        return node.type
    if not isinstance(given, str) or not given:
        raise ViewError(f"{place}.type", "the name of a FHIR type is wanted here")
    kind = given.removeprefix("http://hl7.org/fhir/StructureDefinition/").removeprefix(
        "http://hl7.org/fhirpath/System."
    )
    kind = kind[0].lower() + kind[1:] if "System." in given else kind
    if kind in PRIMITIVE and node.type is not None and node.type not in PRIMITIVE:
        raise ViewError(f"{place}.path", f"the path gives {node.type}, and the column's type is {kind}")
    if kind in NUMERIC | {"boolean"} and node.type in PRIMITIVE and (node.type in NUMERIC) != (kind in NUMERIC):
        raise ViewError(f"{place}.path", f"the path gives {node.type}, and the column's type is {kind}")
    return kind


def _tags(column: Mapping[str, Any], place: str) -> dict[str, str]:
    tags = (_mapping(tag, f"{place}.tag[{i}]") for i, tag in enumerate(_list(column.get("tag"), f"{place}.tag")))
    return {str(tag.get("name")): str(tag.get("value") or "") for tag in tags}


def _constants(constants: object) -> dict[str, Literal]:
    found: dict[str, Literal] = {}
    for i, given in enumerate(_list(constants, "constant")):
        place = f"constant[{i}]"
        constant = _mapping(given, place)
        name = constant.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ViewError(f"{place}.name", "a name of letters, digits and _ is wanted here, a letter first")
        keys = [key for key in constant if key.startswith("value")]
        if len(keys) != 1 or keys[0] not in _CONSTANTS:
            raise ViewError(place, f"constant {name!r} needs exactly one value, under a name such as valueString")
        found[name] = Literal(
            _scalar(constant[keys[0]], _CONSTANTS[keys[0]], f"{place}.{keys[0]}"), _CONSTANTS[keys[0]]
        )
    return found


def _scalar(value: object, kind: str, place: str) -> str | bool | int | Decimal:
    value = Decimal(repr(value)) if isinstance(value, float) else value
    whole = isinstance(value, int) and not isinstance(value, bool)
    fits = {
        "boolean": isinstance(value, bool),
        "decimal": whole or isinstance(value, Decimal),
        **dict.fromkeys(NUMERIC - {"decimal", "integer64"}, whole),
        "integer64": whole or (isinstance(value, str) and value.lstrip("-").isdigit()),
    }.get(kind, isinstance(value, str))
    if not fits or not isinstance(value, str | bool | int | Decimal):
        raise ViewError(place, f"a value of type {kind} is wanted here")
    return int(value) if kind == "integer64" else value


def _check_union(branches: tuple[Select, ...], place: str) -> None:
    shapes = [[(column.name, column.collection) for column in branch.all_columns()] for branch in branches]
    for i, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise ViewError(f"{place}[{i}]", "its columns differ from those of the first branch, in name or order")


def _check_columns(root: Select) -> None:
    seen: set[str] = set()
    for column in root.all_columns():
        if column.name in seen:
            raise ViewError(f"{column.place}.name", f"column {column.name!r} stands twice")
        seen.add(column.name)
    if not seen:
        raise ViewError("select", "the view has no column")


def _mapping(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ViewError(place, "an object is wanted here")
    return value


def _list(value: object, place: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ViewError(place, "a list is wanted here")
    return value


def _known(value: Mapping[str, Any], names: Collection[str], place: str) -> None:
    for key in value:
        if key not in names and not key.startswith("_"):
            near = difflib.get_close_matches(key, sorted(names), 1)
            raise ViewError(f"{place}.{key}", "unknown key" + (f"; the nearest is {near[0]!r}" if near else ""))
