"""Where each segment of a message belongs: by the version's structure where it can be, leniently where not.

Structures: HL7 v2 chapter 2, "Message construction rules". What stands elsewhere than its structure has it is kept,
attached where it makes sense, and reported (`segment-out-of-place`).
"""

from __future__ import annotations

from functools import lru_cache

from mappings.engine.model import Severity
from tasks.model import Finding
from tasks.parse.v2_groups import Group, Layout
from tasks.parse.v2_structure import Node, structure

_CACHED = 300
"""Segments of the longest message whose layout is kept: messages of one shape are many, but not of such a size."""

_PATIENT = ("PID",)
_ORDER = ("OBR", "ORC")
_DRUG = ("RXE", "RXD", "RXA", "RXG", "RXO")
_OWNERS: dict[str, tuple[str, ...]] = {
    "OBX": ("SPM", "SAC", "OBR", *_DRUG, "PRB", "GOL", "TXA", "PV1", "PID"),
    "SPM": (*_ORDER, "PID"),
    "SAC": ("SPM", *_ORDER),
    "TQ1": (*_ORDER, *_DRUG),
    "TQ2": ("TQ1",),
    "CTD": (*_ORDER, "PR1"),
    "CTI": _ORDER,
    "DG1": ("FT1", *_ORDER, "PV1", "PID"),
    "RXR": _DRUG,
    "RXC": _DRUG,
    "PV2": ("PV1",),
    "IN2": ("IN1",),
    "IN3": ("IN1",),
    "ROL": ("PR1", "IN1", "PRB", "GOL", "PTH", *_ORDER, "PV1", "PID"),
    "PRT": ("PR1", "IN1", "PRB", "GOL", "OBX", "SPM", *_ORDER, "PV1", "PID"),
    "VAR": ("ROL", "PRB", "GOL", "PTH"),
    "AIS": ("RGS", "SCH"),
    "AIG": ("RGS", "SCH"),
    "AIL": ("RGS", "SCH"),
    "AIP": ("RGS", "SCH"),
    "RGS": ("SCH",),
    **dict.fromkeys(("PD1", "NK1", "AL1", "IAM", "GT1", "ACC", "UB1", "UB2", "ARV", "DB1", "MRG", "PV1"), _PATIENT),
    **dict.fromkeys(("IN1", "PR1", "FT1", "TXA", "PRB", "GOL"), _PATIENT),
}
"""Whose a segment is, where no structure says so: of the last of these that came before it."""


_NONE: frozenset[str] = frozenset()
_UNKNOWN = Node("", True, False, (), _NONE, frozenset(("MSH",)), _NONE, _NONE)
"""The structure of a message that has none: everything goes to its owner."""


def layout_of(version: str, name: str, names: tuple[str, ...]) -> tuple[Layout, tuple[Finding, ...]]:
    """Return the tree of the segments `names` by structure `name` of `version`, and the findings about it."""
    build = _layout if len(names) <= _CACHED else _layout.__wrapped__
    return build(version, name, names)


@lru_cache(maxsize=2048)
def _layout(version: str, name: str, names: tuple[str, ...]) -> tuple[Layout, tuple[Finding, ...]]:
    top = structure(version, name)
    placer = _Placer(names, top)
    for place, segment in enumerate(names):
        placer.place(place, segment)
    findings = [] if top else [Finding("structure-unknown", "MSH-9", "information")]
    return placer.layout(), (*findings, *placer.findings())


class _Placer:
    """Walks through a structure, one segment after the other; `stack` are the open groups, the innermost last."""

    def __init__(self, names: tuple[str, ...], top: Node | None) -> None:
        self.names = names
        self.top = top or _UNKNOWN
        self.known = top is not None
        self.groups = [Group(-1, single=True)]
        self.nodes = [self.top]
        self.stack = [0]
        self.position = {0: -1}
        self.opened = {0: "MSH"}
        self.instances: dict[tuple[int, int], int] = {}
        self.home: list[int] = []
        self.own: dict[int, int] = {}
        self.owner: dict[int, int] = {}
        self.heads: list[bool] = []
        self.displaced: dict[int, Severity] = {}
        self.recent: dict[str, int] = {}
        self.last = 0
        self.specimen = -1

    def place(self, place: int, name: str) -> None:
        """Find a home for the segment `name` at `place`."""
        if name == "NTE" or name.startswith("Z"):
            # A note belongs to what it follows, and a local segment must not change where anything else goes.
            self._attach(place, self.last)
            return
        self._place_known(place, name)
        if name not in ("OBX", "SAC", "PRT"):
            self.specimen = place if name == "SPM" and place in self.owner else -1
        self.recent[name] = self.last = place

    def _place_known(self, place: int, name: str) -> None:
        if place == 0:
            self._settle(place, 0, self.top.find(name, 0))
        elif not self.known:
            self._adopt(place, name)
        elif name == "OBX" and self.specimen >= 0:
            self._attach(place, self.specimen)
        elif not (self._forward(place, name) or self._backward(place, name)):
            self.displaced[place] = "warning"
            self._adopt(place, name)

    def _forward(self, place: int, name: str) -> bool:
        for depth in range(len(self.stack) - 1, -1, -1):
            group = self.stack[depth]
            node, position = self.nodes[group], self.position[group]
            again = position >= 0 and name in node.items[position].names and not node.items[position].single
            index = position if again else node.find(name, position + 1)
            if index >= 0:
                return self._enter(depth, index, place, name)
            if name in node.anchor and group and (node.single or name not in node.first):
                self.displaced[place] = "information"
                return self._again(depth, place, name)
            if not node.single and name in node.first and ("PRIOR" not in node.name or name == self.opened[group]):
                return self._again(depth, place, name)
        return self._skip(place, name)

    def _again(self, depth: int, place: int, name: str) -> bool:
        """Open a new instance of the group at `depth` with this segment."""
        above = self.stack[depth - 1]
        return self._enter(depth - 1, self.position[above], place, name)

    def _skip(self, place: int, name: str) -> bool:
        """Enter a later group although the segment that should open it is missing."""
        for depth in range(len(self.stack) - 1, -1, -1):
            group = self.stack[depth]
            index = self.nodes[group].holds(name, self.position[group] + 1)
            if index >= 0:
                return self._enter(depth, index, place, name)
        return False

    def _backward(self, place: int, name: str) -> bool:
        """Put the segment where its structure has it, though the message is past that."""
        for depth in range(len(self.stack) - 1, -1, -1):
            group = self.stack[depth]
            index = self.nodes[group].holds(name, 0)
            if index >= 0:
                self.displaced[place] = "information"
                return self._enter(depth, index, place, name, resume=True)
        return False

    def _enter(self, depth: int, index: int, place: int, name: str, *, resume: bool = False) -> bool:
        """Go to item `index` of the group at `depth`, and down to the segment; `resume` goes on in an open instance."""
        del self.stack[depth + 1 :]
        group = self.stack[depth]
        node = self.nodes[group]
        while node.items[index].items:
            self.position[group] = index
            child = node.items[index]
            group = self._instance(group, index, name, resume=resume and (child.single or name not in child.first))
            self.stack.append(group)
            node = child
            found = node.find(name, 0)
            index = found if found >= 0 else node.holds(name, 0)
        self._settle(place, group, index)
        return True

    def _instance(self, group: int, index: int, name: str, *, resume: bool) -> int:
        key = (group, index)
        before = self.instances.get(key)
        if resume and before is not None:
            return before
        node = self.nodes[group].items[index]
        single = node.single and before is None
        if before is not None:
            # Two of what should be one: what follows must not take the first one's segments for its own.
            self.groups[before].single = False
        self.groups.append(Group(group, single, node.name))
        self.nodes.append(node)
        self.instances[key] = number = len(self.groups) - 1
        self.position[number] = -1
        self.opened[number] = name
        return number

    def _settle(self, place: int, group: int, index: int) -> None:
        node = self.nodes[group]
        self.position[group] = index
        self.home.append(group)
        self.heads.append(index >= 0 and node.items[index].single)
        if self.groups[group].anchor < 0 and (not node.anchor or self.names[place] in node.anchor):
            self.groups[group].anchor = place

    def _adopt(self, place: int, name: str) -> None:
        """Attach a segment that the structure does not have to the last segment that it can belong to."""
        owner = max((self.recent.get(owner, -1) for owner in _OWNERS.get(name, ())), default=-1)
        if owner >= 0:
            self._attach(place, owner)
        else:
            self.home.append(self.stack[-1])
            self.heads.append(place == 0)

    def _attach(self, place: int, owner: int) -> None:
        if owner not in self.own:
            self.groups.append(Group(self.home[owner]))
            self.nodes.append(self.top)
            self.own[owner] = len(self.groups) - 1
        self.home.append(self.own[owner])
        self.heads.append(False)
        self.owner[place] = owner

    def layout(self) -> Layout:
        """Return the tree of the segments that were placed."""
        parents = [self._parent(place) for place in range(len(self.names))]
        return Layout(self.names, self.groups, self.home, self.own, self.heads, parents, tuple(self.displaced))

    def _parent(self, place: int) -> int:
        if place in self.owner:
            return self.owner[place]
        group = self.home[place]
        while group >= 0:
            anchor = self.groups[group].anchor
            if 0 <= anchor < place:
                return anchor
            group = self.groups[group].parent
        return -1 if place == 0 else 0

    def findings(self) -> tuple[Finding, ...]:
        """Return a finding for each segment that is out of place."""
        counts: dict[str, int] = {}
        found = []
        for place, name in enumerate(self.names):
            counts[name] = counts.get(name, 0) + 1
            if place in self.displaced:
                found.append(
                    Finding(
                        "segment-out-of-place",
                        f"{name}[{counts[name]}]" if counts[name] > 1 else name,
                        self.displaced[place],
                    )
                )
        return tuple(found)
