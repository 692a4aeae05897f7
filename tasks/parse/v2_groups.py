"""The group tree of a message: which segment belongs to which.

`Layout` holds it as numbers, so that messages of the same shape share one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

_ORDERED = frozenset(("ORC", "OBR", "OBX", "SPM", "TQ1", "TQ2", "NTE"))
"""Segments of an order: a prior result without one of its own does not borrow that of the order around it."""


@dataclass(slots=True)
class Group:
    """One group in a message: an instance of a structure's group, or what is attached to one segment.

    - `parent` is the number of the enclosing group, -1 for the message itself.
    - `name` is the structure's (`ORDER_PRIOR`), "" for the message and for what is attached to a segment.
    - `single` says that it occurs at most once where it stands, so that what follows it can see into it.
    - `anchor` is the place of the segment that stands for the group, -1 where it has none.
    """

    parent: int
    single: bool = False
    name: str = ""
    anchor: int = -1
    last: int = -1


@dataclass(slots=True)
class Layout:
    """The tree of one sequence of segment names.

    - `home[i]` is the group in which segment i stands, `own[i]` the group of what is attached to it (-1: none).
    - `heads[i]` says that segment i stands for its home group (`below` then looks at all of it).
    - `parents[i]` is the place of segment i's parent, -1 for MSH.
    - `displaced` are the places of segments that the structure does not have there.
    """

    names: tuple[str, ...]
    groups: list[Group]
    home: list[int]
    own: dict[int, int]
    heads: list[bool]
    parents: list[int]
    displaced: tuple[int, ...] = ()
    _places: dict[str, list[int]] = field(default_factory=dict)
    _children: dict[int, list[int]] = field(default_factory=dict)
    _nearest: dict[tuple[int, str], int] = field(default_factory=dict)
    _below: dict[tuple[int, str], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for place, name in enumerate(self.names):
            self._places.setdefault(name, []).append(place)
            self._children.setdefault(self.parents[place], []).append(place)
            group = self.home[place]
            while group >= 0:
                self.groups[group].last = place
                group = self.groups[group].parent

    def children(self, place: int) -> list[int]:
        """Return the places whose parent is `place`."""
        return self._children.get(place, [])

    def nearest(self, place: int, name: str) -> int:
        """Return the last place of `name` before `place` in its group or an enclosing one, -1 where there is none.

        A group that occurs once (PATIENT, VISIT) is looked into; one that repeats (INSURANCE, an OBX's notes) is not.
        """
        key = (place, name)
        found = self._nearest.get(key)
        if found is None:
            found = self._nearest[key] = self._look_back(place, name)
        return found

    def below(self, place: int, name: str) -> list[int]:
        """Return the places of `name` after `place` in what it stands for."""
        key = (place, name)
        found = self._below.get(key)
        if found is None:
            found = self._below[key] = self._look_down(place, name)
        return found

    def _look_back(self, place: int, name: str) -> int:
        places = self._places.get(name)
        if not places:
            return -1
        around = self._around(self.home[place])
        prior = self._prior(self.home[place])
        if prior >= 0 and name in _ORDERED:
            around = around[: around.index(prior) + 1]
        for index in range(bisect_left(places, place) - 1, -1, -1):
            group = self.home[places[index]]
            while group not in around and self.groups[group].single:
                group = self.groups[group].parent
            if group in around:
                return places[index]
        return -1

    def _look_down(self, place: int, name: str) -> list[int]:
        top = self.home[place] if self.heads[place] else self.own.get(place, -1)
        places = self._places.get(name)
        if top < 0 or not places:
            return []
        start, stop = bisect_right(places, place), bisect_right(places, self._end(place, top))
        prior = self._prior(top)
        inside = [found for found in places[start:stop] if top in self._around(self.home[found])]
        return [found for found in inside if self._prior(self.home[found]) == prior]

    def _prior(self, group: int) -> int:
        """Return the prior result that `group` is part of, -1 for none: its segments are not the order's own."""
        while group >= 0 and self.groups[group].name != "PRIOR_RESULT":
            group = self.groups[group].parent
        return group

    def _end(self, place: int, top: int) -> int:
        """Return the last place of group `top`, or the one before the next segment of this name in it (A17's PID)."""
        same = self._places[self.names[place]]
        for later in same[bisect_right(same, place) :]:
            if later > self.groups[top].last:
                break
            if self.home[later] == self.home[place]:
                return later - 1
        return self.groups[top].last

    def _around(self, group: int) -> tuple[int, ...]:
        found = []
        while group >= 0:
            found.append(group)
            group = self.groups[group].parent
        return tuple(found)
