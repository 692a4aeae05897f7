"""Message structures as trees that the placing of segments walks through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tasks.parse.v2_dictionary import dictionary


@dataclass(frozen=True, slots=True)
class Node:
    """A segment or a group of a structure.

    - `single`: it occurs once at most; `empty`: it may be left out.
    - `items`: a group's members, empty for a segment.
    - `names`: the segment's name, or of a choice all names; empty for a group.
    - `anchor`: the first required segment of a group, empty where it has none.
    - `first`: the segments that may open it; `has`: all that occur somewhere in it.
    """

    name: str
    single: bool
    empty: bool
    items: tuple[Node, ...]
    names: frozenset[str]
    anchor: frozenset[str]
    first: frozenset[str]
    has: frozenset[str]

    def find(self, name: str, start: int) -> int:
        """Return the first item from `start` that is segment `name` or may open with it, -1 where there is none.

        A prior result that opens with its order looks like a new order, and is taken for one.
        """
        for index in range(start, len(self.items)):
            item = self.items[index]
            prior = item.name == "PRIOR_RESULT" and name in ("ORC", "OBR")
            if name in item.first and not prior:
                return index
        return -1

    def holds(self, name: str, start: int) -> int:
        """Return the first item from `start` that has `name` anywhere in it, -1 where there is none."""
        for index in range(start, len(self.items)):
            item = self.items[index]
            if name in item.has and item.name != "PRIOR_RESULT":
                return index
        return -1


@lru_cache(maxsize=1024)
def structure(version: str, name: str) -> Node | None:
    """Return the structure `name` of `version` (or of the nearest version that has it), None where none has it."""
    items = dictionary(version).structure(name)
    return None if items is None else _group([name, 1, 1, items])


def _node(item: list[Any]) -> Node:
    if len(item) > 3:
        return _group(item)
    name, least, most = item
    names = frozenset(name.split("|"))
    return Node(name, most == 1, least == 0, (), names, names, names, names)


def _group(item: list[Any]) -> Node:
    name, least, most, members = item
    items = tuple(_node(member) for member in members)
    first: set[str] = set()
    for member in items:
        first |= member.first
        if not member.empty:
            break
    return Node(
        name=name,
        single=most == 1,
        empty=least == 0 or all(member.empty for member in items),
        items=items,
        names=frozenset(),
        anchor=next((member.names for member in items if member.names and not member.empty), frozenset()),
        first=frozenset(first),
        has=frozenset().union(*(member.has for member in items)),
    )
