"""An HL7 v2 message: segments with their place, fields read when they are asked for."""

from __future__ import annotations

from tasks.model import Finding
from tasks.parse.v2_dictionary import Dictionary
from tasks.parse.v2_escapes import Delimiters, Field
from tasks.parse.v2_groups import Layout

CLEAR = '""'
"""The HL7 null: the sender deletes the value. An absent or empty field says nothing instead."""


class Segment:
    """A segment in its message.

    - `name` is its three letters; `index` its place in the message, from 0; `ordinal` counts from 1 among its name.
    - Fields, repetitions, components and subcomponents count from 1, as in the standard; MSH-1 is the separator.
    - A segment is cut into fields, and these are unescaped, when the first of them is read.
    """

    __slots__ = ("_fields", "_message", "_text", "index", "name", "ordinal")

    def __init__(self, text: str, name: str, index: int, ordinal: int, message: Message) -> None:
        self._text = text
        self._message = message
        self._fields: tuple[Field, ...] | None = None
        self.name = name
        self.index = index
        self.ordinal = ordinal

    def field(self, n: int) -> Field:
        """Return the repetitions of field `n`; `()` where it is absent or empty."""
        try:
            return self._fields[n]  # type: ignore[index]  # not cut yet: the rarer case, so asked for last
        except IndexError:
            return ()
        except TypeError:
            fields = self.fields
            return fields[n] if n < len(fields) else ()

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields by their number; in the place of 0 stands the segment's name."""
        fields = self._fields
        if fields is None:
            marks = self._message.marks
            texts = self._text.split(marks.field)
            fields = self._fields = tuple(map(marks.read, texts)) if self.index else _header(texts, marks)
        return fields

    def value(self, n: int, rep: int = 1, comp: int = 1, sub: int = 1) -> str:
        """Return one subcomponent of field `n`; "" where it is absent."""
        try:
            return self.field(n)[rep - 1][comp - 1][sub - 1]
        except IndexError:
            return ""

    def repetitions(self, n: int) -> int:
        """Return how many repetitions field `n` has, 0 where it is absent or empty."""
        return len(self.field(n))

    @property
    def count(self) -> int:
        """The number of the last field that is there."""
        return len(self.fields) - 1

    def extend(self, lines: list[str]) -> None:
        """Add lines of text that a line end inside the last field has cut off; only before a field is read."""
        self._text = "\n".join((self._text, *lines))

    def texts(self) -> list[str]:
        """Return the fields as they were sent, by their number (in MSH one less)."""
        return self._text.split(self._message.marks.field)

    @property
    def group(self) -> str:
        """The name of the group that this segment stands in (`ORDER_PRIOR`); "" for the message itself."""
        layout = self._message.layout
        return layout.groups[layout.home[self.index]].name

    @property
    def parent(self) -> Segment | None:
        """The segment that this one belongs to; None for MSH."""
        place = self._message.layout.parents[self.index]
        return None if place < 0 else self._message.segments[place]

    @property
    def children(self) -> list[Segment]:
        """The segments whose parent this is, in the message's order."""
        segments = self._message.segments
        return [segments[place] for place in self._message.layout.children(self.index)]

    def nearest(self, name: str) -> Segment | None:
        """Return this segment, the last `name` before it in its group, or the one of an enclosing group."""
        if name == self.name:
            return self
        place = self._message.layout.nearest(self.index, name)
        return None if place < 0 else self._message.segments[place]

    def below(self, name: str) -> list[Segment]:
        """Return the segments `name` of the group that this segment stands for, and of the groups within it."""
        segments = self._message.segments
        return [segments[place] for place in self._message.layout.below(self.index, name)]

    def __repr__(self) -> str:
        return f"<{self.name}[{self.ordinal}]>"


def _header(texts: list[str], marks: Delimiters) -> tuple[Field, ...]:
    """Return MSH's fields: MSH-1 is the separator and MSH-2 declares the others, so neither is cut at one."""
    return (*map(_whole, ("MSH", marks.field, *texts[1:2])), *map(marks.read, texts[2:]))


def _whole(text: str) -> Field:
    return (((text,),),)


class Message:
    """A message.

    - `version` is MSH-12.1; `structure` MSH-9.3, or what the version's table gives for MSH-9.1 and MSH-9.2.
    - `code` and `trigger` are MSH-9.1 and MSH-9.2; `charset` is the Python codec that the bytes were read with.
    - `dictionary` is the one of its version (or the nearest that there is).
    - `marks` are its separators, `layout` is its group tree by numbers.
    - `segments` is never empty: the first is MSH.
    - `findings` are what was odd about it and did not stop it.
    """

    __slots__ = (
        "charset",
        "code",
        "dictionary",
        "findings",
        "layout",
        "marks",
        "segments",
        "structure",
        "trigger",
        "version",
    )

    segments: list[Segment]
    findings: tuple[Finding, ...]
    layout: Layout
    marks: Delimiters
    charset: str
    code: str
    dictionary: Dictionary
    trigger: str
    structure: str
    version: str

    def first(self, name: str) -> Segment | None:
        """Return the first segment `name`."""
        return next((segment for segment in self.segments if segment.name == name), None)

    def all(self, name: str) -> list[Segment]:
        """Return the segments `name`, in the message's order."""
        return [segment for segment in self.segments if segment.name == name]
