"""What a whole segment has said before of a thing that lives on: patients and visits come again in the same words.

As `recall` does of a field, by the same memory: the segment's map speaks of an empty thing to a learner, which may look
at the segment, at the event (MSH-9) and at what fields have said; whatever looks further raises `Beyond`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from mappings.engine.nodes import Node, Shared
from mappings.engine.protocols import Repetitions, Segment
from mappings.engine.recall import Beyond, Learner, Told, Unlearnable
from mappings.engine.run import Run

LONGEST_SEGMENT = 1000
"""Characters of the longest segment that is learned as a whole."""

Speak = Callable[[Segment, Run, Any], None]


class Whole(Told):
    """What a whole segment said of a thing that lives on."""

    __slots__ = ("cleared", "shared")

    def __init__(self, thing: Thing, learner: Learner) -> None:
        super().__init__(learner)
        self.shared = Shared(thing.slots or {})
        self.cleared = thing.cleared


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


class Thing(Node):
    """A thing that a whole segment is learned on; who it is, the segment does not say alone."""

    __slots__ = ()

    def __init__(self, type_name: str) -> None:
        super().__init__("", type_name, "", None, True)

    def pointer(self) -> NoReturn:
        raise Beyond


def once(group: int, call: Speak, seg: Segment, run: Run, node: Node) -> None:
    """Let a segment's map speak of a thing that lives on: patients and visits come again in the same words.

    What the whole segment says is learned the first time, unless something has been said of the thing before.
    """
    memory = run.recall
    have = None
    if not node.slots and memory.groups[group].__class__ is not Unlearnable and len(seg.text) <= LONGEST_SEGMENT:
        key = _key(seg, run) if group in memory.by_event else seg.text
        have = memory.groups[group].get(key)
        if have is None:
            have = _learn_all(group, key, call, seg, run, node.type)
        else:
            memory.hits[group] += 1
    if have is not None and have.again(run):
        node.share(have.shared)
        node.cleared += have.cleared
    else:
        call(seg, run, node)


def _learn_all(group: int, key: Any, call: Speak, seg: Segment, run: Run, type_name: str) -> Whole | None:  # noqa: PLR0917 - what the map is called with
    """Return what a segment says, to be said again; None where it asks for more than itself and the event."""
    learner, thing = Everything(run), Thing(type_name)
    try:
        call(seg, learner, thing)
    except Beyond:
        whole = None
    else:
        whole = Whole(thing, learner)
    if learner.asked and group not in run.recall.by_event:
        # What was kept before had not asked for the event: from now on it is part of what the segment comes with.
        run.recall.by_event.add(group)
        key = _key(seg, run)
    run.recall.keep_whole(group, key, whole)
    return whole


def _key(seg: Segment, run: Run) -> str:
    header = run.header.texts
    return f"{header[_EVENT] if len(header) > _EVENT else ''}\r{seg.text}"
