"""What a whole segment has said before of a thing: patients and visits come again in the same words, headers too.

As `recall` does of a field, by the same memory: the segment's map speaks of an empty thing to a learner, which may look
at the segment, at the event (MSH-9) and at what fields have said; whatever looks further raises `Beyond`. What it says
is known by the fields that the map has looked at: another control id or time of a header is no other header.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NoReturn

from mappings.engine.nodes import Node, Shared
from mappings.engine.protocols import Repetitions, Segment, Shape, Texts
from mappings.engine.recall import Beyond, Learner, Told
from mappings.engine.run import Run

LONGEST_SEGMENT = 1000
"""Characters of the longest segment that is learned as a whole."""

Speak = Callable[[Segment, Run, Any], None]


class Whole(Told):
    """What a whole segment said of a thing: in slots of one that lives on, in elements of a fact."""

    __slots__ = ("cleared", "lists", "resource", "shared")

    def __init__(self, thing: Thing, learner: Learner) -> None:
        super().__init__(learner)
        self.shared = Shared(thing.slots or {})
        self.resource = thing.resource
        self.lists = [name for name, value in thing.resource.items() if value.__class__ is list]
        self.cleared = thing.cleared

    def speak(self, node: Node) -> None:
        """Say it of a thing of which nothing has been said."""
        if node.slots is not None:
            node.share(self.shared)
        else:
            node.resource.update(self.resource)
            for name in self.lists:
                # Rows of other segments append to lists; what stands in them nobody changes.
                node.resource[name] = [*self.resource[name]]
        node.cleared += self.cleared


class Everything(Learner):
    """A learner of a whole segment: it knows the event, and what the segment's fields have said before."""

    __slots__ = ("_header", "_recall", "asked")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._recall = run.recall
        self._header = run.header
        self.asked = False

    recall = property(lambda self: self._recall, Learner._set)

    @property
    def header(self) -> Any:
        self.asked = True
        return Event(self._header)


class Event:
    """An MSH of which MSH-9 alone is there to be read."""

    __slots__ = ("_header",)
    name, index, ordinal = "MSH", 0, 1

    def __init__(self, header: Segment) -> None:
        self._header = header

    def _look(self) -> NoReturn:
        raise Beyond

    text = property(_look)
    texts = property(_look)
    count = property(_look)

    def field(self, n: int, /) -> Repetitions:
        return self._header.field(n) if n == _EVENT else self._look()

    def value(self, n: int, rep: int = 1, comp: int = 1, sub: int = 1, /) -> str:
        return self._header.value(n, rep, comp, sub) if n == _EVENT else self._look()


_EVENT = 9


class TextsRead:
    """A segment's fields as they were sent; `read` is which of them have been looked at."""

    __slots__ = ("_texts", "read")

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self.read: set[int] = set()

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, n: int) -> str:
        self.read.add(n)
        return self._texts[n]


class Read:
    """A segment that notes which of its fields are looked at; how many it has, decides with them what it says."""

    __slots__ = ("_seg", "index", "name", "ordinal", "texts")

    def __init__(self, seg: Segment) -> None:
        self._seg = seg
        self.name, self.index, self.ordinal = seg.name, seg.index, seg.ordinal
        self.texts = TextsRead(seg.texts)

    @property
    def count(self) -> int:
        return len(self.texts) - 1

    @property
    def text(self) -> NoReturn:
        raise Beyond

    def field(self, n: int, /) -> Repetitions:
        self.texts.read.add(n)
        return self._seg.field(n)

    def value(self, n: int, rep: int = 1, comp: int = 1, sub: int = 1, /) -> str:
        self.texts.read.add(n)
        return self._seg.value(n, rep, comp, sub)

    def shape(self, n: int, /) -> Shape | None:
        return self._seg.shape(n)


class Known(dict[Any, Whole]):
    """What segments of one map said, by how many fields they have and the texts of those that it looks at."""

    __slots__ = ("_getters", "_numbers", "event")

    def __init__(self) -> None:
        super().__init__()
        self._numbers: set[int] = set()
        self._getters: dict[int, Callable[[Any], Any]] = {}
        self.event = False

    def key(self, seg: Segment, run: Run) -> Any:
        """Return what decides what a segment says, as far as is known yet."""
        texts = seg.texts
        count = len(texts)
        getter = self._getters.get(count)
        if getter is None:
            # A getter of one number would give no tuple; the name stands in the place of 0.
            numbers = [0, 0, *sorted(number for number in self._numbers if number < count)]
            getter = self._getters[count] = itemgetter(*numbers)
        if self.event:
            header = run.header.texts
            return count, getter(texts), header[_EVENT] if len(header) > _EVENT else ""
        return count, getter(texts)

    def widen(self, numbers: set[int], asked: bool) -> None:
        """Let what has been looked at for the first time decide, too; what was learned without it is forgotten."""
        if not numbers <= self._numbers or asked > self.event:
            self._numbers |= numbers
            self.event = self.event or asked
            self._getters.clear()
            self.clear()


class Thing(Node):
    """A thing that a whole segment is learned on; who it is, the segment does not say alone."""

    __slots__ = ()

    def __init__(self, type_name: str, living: bool) -> None:
        super().__init__("", type_name, "", None, living)
        self.resource = {}

    def pointer(self) -> NoReturn:
        raise Beyond


def once(group: int, call: Speak, seg: Segment, run: Run, node: Node) -> None:
    """Let a segment's map speak of a thing: what the whole segment says is learned the first time.

    Of a thing of which something has been said before, and for a map whose segments hardly ever come again, the map
    speaks itself.
    """
    memory = run.recall
    if group in memory.closed or node.slots or len(node.resource) > _NAMED or len(seg.text) > LONGEST_SEGMENT:
        call(seg, run, node)
        return
    known = memory.groups[group]
    if known.__class__ is not Known:
        known = memory.groups[group] = Known()
    have = known.get(known.key(seg, run))
    if have is None:
        have = _learn_all(group, known, call, seg, run, node)
    else:
        memory.hits[group] += 1
    if have is not None and have.again(run):
        have.speak(node)
    else:
        call(seg, run, node)


_NAMED = 2
"""Elements of a resource of which nothing but its type and its id is known."""


def _learn_all(group: int, known: Known, call: Speak, seg: Segment, run: Run, node: Node) -> Whole | None:  # noqa: PLR0917 - what the map is called with
    """Return what a segment says, to be said again; None where it asks for more than itself and the event."""
    learner, thing, read = Everything(run), Thing(node.type, node.slots is not None), Read(seg)
    memory = run.recall
    memory.missed(group)
    try:
        call(read, learner, thing)
    except Beyond:
        return None
    known.widen(read.texts.read, learner.asked)
    whole = Whole(thing, learner)
    memory.keep(group, known.key(seg, run), whole)
    return whole
