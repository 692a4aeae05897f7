"""From which elements of its resource each column of a view is made: the lineage of columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mappings.engine.views.definition import Column, Select
from mappings.engine.views.nodes import Choose, Each, Filter, Focus, Function, Item, Member, Node, Operation, Root
from mappings.engine.views.view import View

Paths = frozenset[str]
ROOT: Paths = frozenset([""])


@dataclass(frozen=True, slots=True)
class Origin:
    """An element, as `name.family`; `identity` where the column holds it as it is, and nothing else."""

    path: str
    identity: bool


def origins(view: View) -> Mapping[str, tuple[Origin, ...]]:
    """Return the elements that each column is made from; none for a literal or the number of a row."""
    found: dict[str, set[Origin]] = {column.name: set() for column in view.columns}
    for column, focus in _columns(view.definition.select, ROOT):
        paths = _paths(column.node, focus)
        plain = len(paths) == 1 and _is_plain(column.node)
        found[column.name].update(Origin(path, plain) for path in paths)
    return {name: tuple(sorted(some, key=lambda one: one.path)) for name, some in found.items()}


def _columns(select: Select, focus: Paths) -> Iterator[tuple[Column, Paths]]:
    """Yield every column of a select and its branches, with the elements that its path starts from."""
    inner = frozenset(path for node in select.over for path in _paths(node, focus)) if select.over else focus
    yield from ((column, inner) for column in select.columns)
    for one in (*select.selects, *select.union):
        yield from _columns(one, inner)


def _paths(node: Node, focus: Paths) -> Paths:
    found: Paths = frozenset()
    match node:
        case Focus(root=True) | Root():
            found = ROOT
        case Focus():
            found = focus
        case Member(base=base, keys=keys):
            found = frozenset(f"{path}.{keys[0]}".lstrip(".") for path in _paths(base, focus))
        case Item(base=base) | Filter(base=base):
            found = _paths(base, focus)
        case Each(base=base, projection=projection):
            found = _paths(projection, _paths(base, focus))
        case Function(name="getResourceKey"):
            found = frozenset(["id"])
        case Function(base=base, arguments=arguments):
            found = _paths(base, focus).union(*(_paths(one, focus) for one in arguments))
        case Operation(left=left, right=right):
            found = _paths(left, focus) | _paths(right, focus)
        case Choose(condition=condition, then=then, otherwise=otherwise):
            found = _paths(condition, focus) | _paths(then, focus) | _paths(otherwise, focus)
    return found


def _is_plain(node: Node) -> bool:
    match node:
        case Member(base=base) | Item(base=base) | Filter(base=base):
            return _is_plain(base)
        case Focus() | Root():
            return True
    return False
