"""The in-memory destination (`kind: memory`): what tests, demonstrations and the conformance suite use as a fake.

It keeps every promise of a destination; `box` names a `Box` of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from tasks.deliver.port import DestinationOptions, Item, Outcome, misnamed
from tasks.errors import Transient
from tasks.model import Finding, Resource


class MemoryOptions(DestinationOptions):
    """A destination's file with `kind: memory`; with `send: pass` it is sent records as they came."""

    box: str


class Box:
    """What a destination holds, and how it is told to behave.

    - `held` are resources by key, or records' bytes; `order` is every key that was written, in order.
    - `down` answers nothing; `judge` returns a finding's code for what is refused.
    """

    def __init__(self) -> None:
        self.held: dict[str, Resource | bytes | None] = {}
        self.order: list[str] = []
        self.down = False
        self.judge: Callable[[Item], str | None] = lambda _item: None
        self.lock = threading.Lock()


_boxes: dict[str, Box] = {}


def box(name: str) -> Box:
    """Return the box of that name, made where there is none."""
    return _boxes.setdefault(name, Box())


class MemoryDestination:
    """Puts versions into a box."""

    Options: ClassVar[type[DestinationOptions]] = MemoryOptions

    def __init__(self, options: MemoryOptions, connection: Mapping[str, str]) -> None:
        self._box = box(options.box)

    def send(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Put `items` into the box, and yield one outcome for each."""
        if self._box.down:
            raise Transient(f"the box is down: its {len(items)} things wait")
        for item in items:
            yield self._one(item)

    def close(self) -> None:
        """Nothing is held open."""

    def _one(self, item: Item) -> Outcome:
        if refusal := misnamed(item):
            return refusal
        if code := self._box.judge(item):
            return Outcome(item, "refused", "422", Finding(code, item.resource_type, "error"))
        new = item.resource if item.content is None else item.content
        with self._box.lock:
            if item.key in self._box.held and self._box.held[item.key] == new:
                return Outcome(item, "unchanged", "304")
            self._box.held[item.key] = new
            self._box.order.append(item.key)
        return Outcome(item, "sent", "200")
