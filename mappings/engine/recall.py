"""What a field has said before: the same codes, units, physicians and wards come in message after message.

A field's rows are compiled to a function of their own. What it says of a resource is learned when the same text comes
for the second time, and said again from then on. Learning runs the same function on an empty sheet with a `Learner` in
the place of the run; whatever looks beyond the text (another segment, the scope, the message) raises `Beyond`, and that
field is never learned. So nothing has to declare that it depends on the text alone.

A memory belongs to one profile and mapping version (the converter), one time zone, and one set of separators and
charset, which together decide what a text means. What is in it is shared between messages: nobody changes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NoReturn

from mappings.engine.model import Severity
from mappings.engine.nodes import Node, mentioned
from mappings.engine.protocols import Segment
from mappings.engine.run import Run
from mappings.engine.tables import Table

LONGEST = 250
"""Characters of the longest text that is learned."""
MOST = 40_000
"""Texts that one memory knows before it starts anew."""
_AWAITED = 40_000
"""Texts that have come once and are remembered as such."""
_WORDS = 5_000
"""Texts that one of `words` knows before it starts anew."""
_TRIED, _WORTH = 1000, 10
"""New texts of a group after which it is looked at how many came again; nothing more is learned below one in ten."""

Group = Callable[[Segment, Run, Any, Any], None]


class Beyond(Exception):
    """A function looked at more than the text that it was given."""


class Words(dict[Any, Any]):
    """What texts have become; starts anew when it is full."""

    __slots__ = ()

    def __setitem__(self, text: Any, value: Any) -> None:
        if len(self) >= _WORDS:
            self.clear()
        super().__setitem__(text, value)


class Memory:
    """What the texts of each group of rows said; `groups` holds a dict by text for each.

    `words` holds what named functions have made of texts, by the function's or the data type's name; `closed` the
    groups that learn nothing more.
    """

    __slots__ = ("_awaited", "_beyond", "_count", "_misses", "closed", "groups", "hits", "words")

    def __init__(self, size: int) -> None:
        self.groups: list[dict[Any, Any]] = [{} for _ in range(size)]
        self.words: defaultdict[str, Words] = defaultdict(Words)
        self.closed: set[int] = set()
        self.hits = [0] * size
        self._misses = [0] * size
        self._beyond: set[int] = set()
        self._awaited: set[int] = set()
        self._count = 0

    def again(self, group: int, text: str) -> bool:
        """Say whether a text that could be learned comes for the second time, as far as that is remembered."""
        if group in self.closed:
            return False
        key = hash((group, text))
        if key in self._awaited:
            self.hits[group] += 1
            return True
        if len(self._awaited) >= _AWAITED:
            self._awaited.clear()
        self._awaited.add(key)
        self.missed(group)
        return False

    def missed(self, group: int) -> None:
        """Note that something new came; a group that is hardly ever said again (order numbers) is closed."""
        self._misses[group] += 1
        if self._misses[group] > _TRIED:
            if self.hits[group] * _WORTH < self._misses[group]:
                self.closed.add(group)
            self._misses[group] = self.hits[group] = 0

    def keep(self, group: int, key: Any, said: Any) -> None:
        """Keep what a text said; a full memory forgets all that texts said, not which groups are never learned."""
        self._count += 1
        if self._count > MOST:
            for known in self.groups:
                known.clear()
            self.closed = set(self._beyond)
            self._count = 0
        self.groups[group][key] = said

    def never(self, group: int) -> None:
        """Do not try this group again: it depends on more than its text."""
        self._beyond.add(group)
        self.closed.add(group)


class Sheet(Node):
    """A resource that a field is learned on."""

    __slots__ = ("clears",)

    def __init__(self, type_name: str, living: bool) -> None:
        super().__init__("", type_name, "", None, living)
        self.resource = {}
        self.clears: list[tuple[str, str]] = []

    def clear(self, slot: str, path: str) -> None:
        self.clears.append((slot, path))


class Told:
    """What a text found and mentioned, besides what it said."""

    __slots__ = ("found", "things")

    def __init__(self, learner: Learner) -> None:
        self.found = learner.found
        self.things = mentioned(learner.order)

    def again(self, run: Run) -> bool:
        """Say all but the values once more; False where a thing is known otherwise than it was mentioned then."""
        nodes = run.nodes
        for type_name, node_id, shared in self.things:
            node = nodes.get((type_name, node_id))
            if node is not None and node.slots is not shared.slots:
                return False
        if self.things:
            run.apply(self.things)
        for found in self.found:
            if len(found) == 3:
                run.find(*found)
            else:
                run.unmapped(*found)
        return True


class Said(Told):
    """What a field said where that is more than values: it cleared, found something, or mentioned things."""

    __slots__ = ("clears", "values")

    def __init__(self, sheet: Sheet, learner: Learner) -> None:
        super().__init__(learner)
        self.values = sheet.resource if sheet.slots is None else sheet.slots
        self.clears = sheet.clears


class Findings:
    """A conversion of which only the number of findings is asked."""

    __slots__ = ("findings",)

    def __init__(self) -> None:
        self.findings: list[Any] = []


class Learner(Run):
    """A run that knows what its profile, time zone and maps decide, and nothing of the message."""

    __slots__ = ("found",)

    def __init__(self, run: Run) -> None:
        self.profile = run.profile
        self.partner = run.partner
        self.timezone = run.timezone
        self.shared = run.shared
        self.maps = run.maps
        self.marks = run.marks
        self.tables = run.tables
        self.cache = run.cache
        self.conversion: Any = Findings()
        self.nodes = {}
        self.order = []
        self.lost = None
        self.found: list[Any] = []

    def find(self, code: str, at: str, severity: Severity | None = None) -> Any:
        self.found.append((code, at, severity))
        self.conversion.findings.append(code)

    def unmapped(self, table: Table | str, system: str, code: str, at: str) -> None:
        self.found.append((table, system, code, at))
        self.conversion.findings.append(code)

    @property
    def here(self) -> None:
        return None

    def _look(self) -> NoReturn:
        raise Beyond

    def _set(self, _: Any) -> NoReturn:
        raise Beyond

    # What is not the text's is not there to be read.
    scope = property(_look, _set)
    node = property(_look, _set)
    seg = property(_look, _set)
    message = property(_look, _set)
    memory = property(_look, _set)
    recall = property(_look, _set)
    header = property(_look, _set)
    later = property(_look, _set)
    links = property(_look, _set)
    listed = property(_look, _set)
    waiting = property(_look, _set)


def say(group: int, text: str, have: Any, call: Group, seg: Segment, run: Run, node: Node, o: Any) -> Any:  # noqa: PLR0917 - called by generated code
    """Let a field speak that is not known by its values alone; return the values that are still to be put, or None."""
    if have is None and len(text) <= LONGEST and run.recall.again(group, text):
        have = _learn(group, text, call, seg, run, Sheet(node.type, o is None))
        if have.__class__ is dict:
            return have
    if have is not None and have.again(run):
        for slot, path in have.clears:
            node.clear(slot, path)
        return have.values
    if o is None:
        call(seg, run, node, None)
        return None
    # What a field holds beyond its type is looked for in what this field has said, as it is when it is learned.
    own: dict[str, Any] = {}
    call(seg, run, node, own)
    return own


def _learn(group: int, text: str, call: Group, seg: Segment, run: Run, sheet: Sheet) -> Any:  # noqa: PLR0917 - see above
    """Return what a text says, to be said again; None for a group that asks for more than it."""
    memory = run.recall
    learner = Learner(run)
    try:
        call(seg, learner, sheet, sheet.resource)
    except Beyond:
        memory.never(group)
        return None
    said: Any = Said(sheet, learner)
    if not (said.clears or said.found or said.things):
        said = said.values
    memory.keep(group, text, said)
    return said
