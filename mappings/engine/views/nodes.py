"""The resolved tree of a path: every node knows its type and whether it can give more than one item.

Both compilers read it, so that what a path means is decided once. `type` is a FHIR type, or None where
FHIR's definitions do not say; `many` is False where they promise at most one item.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal as Word

Scalar = str | bool | int | Decimal


@dataclass(frozen=True, slots=True)
class Focus:
    """The item that the path starts from; `root` says that it is the resource itself."""

    type: str | None
    many: bool = False
    root: bool = False


@dataclass(frozen=True, slots=True)
class Root:
    """`%resource`: the resource itself."""

    type: str | None
    many: bool = False


@dataclass(frozen=True, slots=True)
class RowIndex:
    """`%rowIndex`: the place of the row in the nearest forEach or repeat, from 0."""

    type: str | None = "integer"
    many: bool = False


@dataclass(frozen=True, slots=True)
class Empty:
    """The empty collection."""

    type: str | None = None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that stands in the view."""

    value: Scalar
    type: str | None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """The elements of `base` under any of the JSON names `keys`."""

    base: Node
    keys: tuple[str, ...]
    type: str | None
    many: bool


@dataclass(frozen=True, slots=True)
class Item:
    """The item at `position` of a collection; -1 is the last."""

    base: Node
    position: Node
    type: str | None
    many: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """The items for which `criteria` is true; with `types` also those of these resource types."""

    base: Node
    criteria: Node
    type: str | None
    many: bool


@dataclass(frozen=True, slots=True)
class Each:
    """What `projection` gives for each item, all together."""

    base: Node
    projection: Node
    type: str | None
    many: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a collection and of arguments that are evaluated outside of it."""

    name: str
    base: Node
    arguments: tuple[Node, ...]
    type: str | None
    many: bool = False


Comparison = Word["temporal", "numeric", "text", "unknown"]


@dataclass(frozen=True, slots=True)
class Operation:
    """`left operator right`; `kind` says how two items are compared."""

    operator: str
    left: Node
    right: Node
    type: str | None
    kind: Comparison = "unknown"
    many: bool = False


@dataclass(frozen=True, slots=True)
class Choose:
    """`iif(condition, then, otherwise)`."""

    condition: Node
    then: Node
    otherwise: Node
    type: str | None
    many: bool


Node = Focus | Root | RowIndex | Empty | Literal | Member | Item | Filter | Each | Function | Operation | Choose
