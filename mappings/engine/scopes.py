"""Scopes: the stretches of a message in which a label means one thing."""

from __future__ import annotations

from mappings.engine.nodes import Node
from mappings.engine.protocols import Message, Segment


class Shape:
    """What a scope is before there is a message: its place among the scopes, and the segments seen from it by number.

    - `first` holds the first segment of each name that stands in it, `members` all that stand directly in it.
    - `near` and `many` are those of the nearest scope that has any, outwards.
    """

    __slots__ = ("first", "many", "members", "name", "near", "number", "parent")

    def __init__(self, name: str, parent: Shape | None, number: int) -> None:
        self.name = name
        self.parent = parent
        self.number = number
        self.first: dict[str, int] = {}
        self.members: dict[str, list[int]] = {}
        self.near: dict[str, int] = {}
        self.many: dict[str, list[int]] = {}

    def settle(self) -> None:
        """Look outwards, once all segments have their place; the scope around this one has done so before."""
        outer = self.parent
        self.near = {**(outer.near if outer else {}), **self.first}
        self.many = {**(outer.many if outer else {}), **self.members}


class Scope:
    """A stretch of the message in which labels mean one thing: a patient, an order, an observation."""

    __slots__ = ("_chain", "_message", "name", "nodes", "parent", "shape")

    def __init__(self, shape: Shape, parent: Scope | None, message: Message) -> None:
        self.shape = shape
        self.name = shape.name
        self.parent = parent
        self.nodes: dict[str, Node] = {}
        self._chain: tuple[dict[str, Node], ...] = (self.nodes, *parent._chain) if parent else (self.nodes,)
        self._message = message

    def find(self, label: str) -> Node | None:
        """Return the nearest node with `label`, outwards."""
        for nodes in self._chain:
            if label in nodes:
                return nodes[label]
        return None

    def home(self, name: str) -> Scope:
        """Return the nearest scope called `name`, outwards; this one where there is none."""
        scope: Scope | None = self
        while scope is not None:
            if scope.name == name:
                return scope
            scope = scope.parent
        return self

    def segment(self, name: str) -> Segment | None:
        """Return the nearest segment called `name`, outwards."""
        place = self.shape.near.get(name)
        return None if place is None else self._message.segments[place]

    def every(self, name: str) -> list[Segment]:
        """Return the segments called `name` of the nearest scope that has any, outwards."""
        return [self._message.segments[place] for place in self.shape.many.get(name, ())]
