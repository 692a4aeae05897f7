"""An HL7 v2 message: segments with their place, fields read when they are asked for."""

from __future__ import annotations

from weakref import ref

from tasks.model import Finding
from tasks.parse.v2_dictionary import Dictionary, shape
from tasks.parse.v2_escapes import SHORT, Delimiters, Field
from tasks.parse.v2_groups import Layout

CLEAR = '""'
"""The HL7 null: the sender deletes the value. An absent or empty field says nothing instead."""


class Segment:
    """A segment in its message.

    - `name` is its three letters; `index` its place in the message, from 0; `ordinal` counts from 1 among its name.
    - `text` is the segment as it was sent.
    - Fields, repetitions, components and subcomponents count from 1, as in the standard; MSH-1 is the separator.
    - A segment is cut into fields when the first of them is read; a field is unescaped when it is read.
    - It reads its fields alone; what stands around it, it knows as long as somebody holds the message.
    """

    __slots__ = ("_long", "_marks", "_message", "index", "name", "ordinal", "text", "texts")

    texts: list[str]
    """The fields as they were sent, by their number; in the place of 0 stands the segment's name."""

    def __init__(  # noqa: PLR0917 - made by `map`, thousands of times a second
        self, text: str, name: str, index: int, ordinal: int, marks: Delimiters, message: ref[Message]
    ) -> None:
        self.text = text
        self._marks = marks
        # Not held: message and segments in a circle would live until the garbage collector comes.
        self._message = message
        self._long: dict[int, Field] | None = None
        self.name = name
        self.index = index
        self.ordinal = ordinal

    def __getattr__(self, name: str) -> list[str]:
        """Cut the segment into fields when they are asked for the first time."""
        if name != "texts":
            raise AttributeError(name)
        mark = self._marks.field
        texts = self.texts = self.text.split(mark)
        if not self.index:
            texts.insert(1, mark)
        return texts

    def field(self, n: int) -> Field:
        """Return the repetitions of field `n`; `()` where it is absent or empty."""
        texts = self.texts
        if n >= len(texts):
            return ()
        text = texts[n]
        return self._marks.read(text) if self.index and len(text) <= SHORT else self._special(n, text)

    def _special(self, n: int, text: str) -> Field:
        """Read a field of MSH (MSH-1 and MSH-2 are not cut), or a long one, once."""
        if not self.index and n <= 2:
            return _whole(text)
        if len(text) <= SHORT:
            return self._marks.read(text)
        if self._long is None:
            self._long = {}
        field = self._long.get(n)
        if field is None:
            field = self._long[n] = self._marks.read(text)
        return field

    @property
    def fields(self) -> tuple[Field, ...]:
        """All fields by their number; in the place of 0 stands the segment's name."""
        texts, read = self.texts, self._marks.read
        return tuple(map(read, texts)) if self.index else (*map(_whole, texts[:3]), *map(read, texts[3:]))

    def value(self, n: int, rep: int = 1, comp: int = 1, sub: int = 1) -> str:
        """Return one subcomponent of field `n`; "" where it is absent."""
        texts = self.texts
        if n >= len(texts) or not texts[n]:
            return ""
        try:
            return self.field(n)[rep - 1][comp - 1][sub - 1]
        except IndexError:
            return ""

    def shape(self, n: int) -> tuple[bool, tuple[int, ...]] | None:
        """Return whether field `n` may repeat and the subcomponents of its components, None where nothing says so."""
        return shape(self.name, n)

    def repetitions(self, n: int) -> int:
        """Return how many repetitions field `n` has, 0 where it is absent or empty."""
        return len(self.field(n))

    @property
    def count(self) -> int:
        """The number of the last field that is there."""
        return len(self.texts) - 1

    def extend(self, lines: list[str]) -> None:
        """Add lines of text that a line end inside the last field has cut off; only before a field is read."""
        self.text = "\n".join((self.text, *lines))

    @property
    def _home(self) -> Message:
        """The message; raises `ReferenceError` where nobody holds it any more."""
        message = self._message()
        if message is None:
            raise ReferenceError("the segment's message is gone: hold it as long as its tree is asked for")
        return message

    @property
    def group(self) -> str:
        """The name of the group that this segment stands in (`ORDER_PRIOR`); "" for the message itself."""
        layout = self._home.layout
        return layout.groups[layout.home[self.index]].name

    @property
    def parent(self) -> Segment | None:
        """The segment that this one belongs to; None for MSH."""
        place = self._home.layout.parents[self.index]
        return None if place < 0 else self._home.segments[place]

    @property
    def children(self) -> list[Segment]:
        """The segments whose parent this is, in the message's order."""
        segments = self._home.segments
        return [segments[place] for place in self._home.layout.children(self.index)]

    def nearest(self, name: str) -> Segment | None:
        """Return this segment, the last `name` before it in its group, or the one of an enclosing group."""
        if name == self.name:
            return self
        place = self._home.layout.nearest(self.index, name)
        return None if place < 0 else self._home.segments[place]

    def below(self, name: str) -> list[Segment]:
        """Return the segments `name` of the group that this segment stands for, and of the groups within it."""
        segments = self._home.segments
        return [segments[place] for place in self._home.layout.below(self.index, name)]

    def __repr__(self) -> str:
        return f"<{self.name}[{self.ordinal}]>"


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
        "__weakref__",
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

    @property
    def context(self) -> tuple[str, ...]:
        """Separators and charset: two messages that have them in common read the same text alike."""
        return self.marks.context

    @property
    def cuts(self) -> tuple[str, str, str]:
        """What separates repetitions, components and subcomponents; NUL, which no message has, where nothing does."""
        return self.marks.cuts

    def first(self, name: str) -> Segment | None:
        """Return the first segment `name`."""
        for segment in self.segments:
            if segment.name == name:
                return segment
        return None

    def all(self, name: str) -> list[Segment]:
        """Return the segments `name`, in the message's order."""
        return [segment for segment in self.segments if segment.name == name]
