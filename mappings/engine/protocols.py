"""What the engine needs of a parsed HL7 v2 message; the parser's classes fit without knowing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Subcomponents = Sequence[str]
Components = Sequence[Subcomponents]
Repetitions = Sequence[Components]
Shape = tuple[bool, Sequence[int]]

CLEAR = '""'
"""HL7's null: the sender deletes what the field said before."""


class Texts(Protocol):
    """Fields as they were sent, by their number; in the place of 0 stands the segment's name."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> str: ...


class Segment(Protocol):
    """One segment; fields count from 1, as the standard counts them (MSH-1 is the separator)."""

    @property
    def name(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def ordinal(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def text(self) -> str:
        """The segment as it was sent."""
        ...

    @property
    def texts(self) -> Texts:
        """The fields as they were sent, by their number; equal texts of messages with one context mean the same."""
        ...

    def field(self, n: int, /) -> Repetitions: ...
    def value(self, n: int, rep: int = 1, comp: int = 1, sub: int = 1, /) -> str: ...
    def shape(self, n: int, /) -> Shape | None:
        """Whether field `n` may repeat, and the subcomponents of each of its components; None where nothing says so."""
        ...


class Message(Protocol):
    """One message, its segments in the order in which they came."""

    @property
    def version(self) -> str: ...
    @property
    def structure(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def trigger(self) -> str: ...
    @property
    def context(self) -> tuple[str, ...]: ...
    @property
    def cuts(self) -> Sequence[str]:
        """What separates repetitions, components and subcomponents; a character that no text has where nothing does."""
        ...

    @property
    def segments(self) -> Sequence[Segment]: ...
    def first(self, name: str, /) -> Segment | None: ...
