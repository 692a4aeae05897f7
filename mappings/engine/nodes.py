"""Resources under construction, and what is shared of them between messages that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mappings.engine.model import Entry, Resource, Slots
from mappings.engine.slots import MANY, add_new, assemble

if TYPE_CHECKING:
    from mappings.engine.scopes import Scope


class Node:
    """A resource under construction; `slots` is None for a fact, `resource` is what maps of facts fill in.

    While `shared` is set, slots and resource are its own and belong to every message that says the same of the thing;
    whoever says more takes a copy first.
    """

    __slots__ = (
        "_known",
        "_pointer",
        "cleared",
        "deleted",
        "id",
        "label",
        "resource",
        "scope",
        "shared",
        "slots",
        "type",
    )

    def __init__(self, label: str, type_name: str, node_id: str, scope: Scope | None, living: bool) -> None:
        self.label = label
        self.type = type_name
        self.id = node_id
        self.scope = scope
        self.slots: Slots | None = {} if living else None
        self.resource: Resource = {"resourceType": type_name, "id": node_id}
        self.cleared: tuple[str, ...] = ()
        self.deleted = False
        self.shared: Shared | None = None
        self._pointer: dict[str, str] | None = None
        self._known: tuple[list[tuple[str, Any]], set[str]] | None = None

    def share(self, shared: Shared) -> None:
        """Say all that is shared, and nothing else; for a node of which nothing has been said."""
        self.shared = shared
        self.slots = shared.slots

    def _own(self) -> None:
        """Take a copy of what is shared."""
        self.slots = {slot: list(said) for slot, said in (self.slots or {}).items()}
        self.shared = None

    def replace(self, slot: str, said: list[tuple[str, Any]]) -> None:
        """Let `slot` say this alone, whatever it said before."""
        if self.shared:
            self._own()
        assert self.slots is not None  # noqa: S101 - what has slots is living
        self.slots[slot] = said

    def say(self, slot: str, path: str, value: Any) -> None:
        """Put `value` at `path` as what `slot` says (a fact has no slots: it is set or appended at once)."""
        if self.slots is None:
            put(self.resource, path, value)
            return
        if self.shared:
            self._own()
        said = self.slots.get(slot)
        if said is None:
            self.slots[slot] = [(path, value)]
        elif len(said) >= MANY:
            self._say_more(slot, said, (path, value))
        elif (path, value) not in said:
            # What is there may be shared with other messages.
            self.slots[slot] = [*said, (path, value)]

    def _say_more(self, slot: str, said: list[tuple[str, Any]], more: tuple[str, Any]) -> None:
        """Say one more of very many repetitions: whether it is there already is known without a look at each."""
        known = self._known[1] if self._known and self._known[0] is said else {repr(one) for one in said}
        if repr(more) not in known:
            known.add(repr(more))
            assert self.slots is not None  # noqa: S101 - a fact has no slots
            self.slots[slot] = said = [*said, more]
        self._known = said, known

    def tell(self, slots: Slots) -> None:
        """Say all that `slots` say, which may be shared with other messages."""
        if self.shared:
            self._own()
        have = self.slots
        assert have is not None  # noqa: S101 - what has slots is living
        for slot, said in slots.items():
            if slot not in have:
                have[slot] = said
            else:
                for path, value in said:
                    self.say(slot, path, value)

    def mention(self, slot: str, path: str, value: Any) -> None:
        """Say `value`; of two mentions in one message the one that says more stands."""
        if self.shared:
            self._own()
        slots = self.slots
        assert slots is not None  # noqa: S101 - what is mentioned is living
        said = slots.get(slot)
        if said is None:
            slots[slot] = [(path, value)]
            return
        # What is there may be shared with other messages.
        slots[slot] = said = [*said]
        for at, (have_path, have) in enumerate(said):
            if have_path == path:
                said[at] = (path, max(have, value, key=lambda v: (len(repr(v)), repr(v))))
                return
        said.append((path, value))

    def pointer(self) -> dict[str, str]:
        """Return a reference to this resource, the same for all who point at it: nobody changes it."""
        pointer = self._pointer
        if pointer is None:
            pointer = self._pointer = {"reference": f"{self.type}/{self.id}"}
        return pointer

    def point(self, slot: str, path: str, pointer: dict[str, str], many: bool) -> None:
        """Say a reference; a thing that is shared stays so where others have pointed at the same."""
        shared = self.shared and self.shared.pointing(slot, path, pointer, many)
        if shared:
            self.share(shared)
        else:
            self.say(slot, path, [pointer] if many else pointer)

    def clear(self, slot: str, path: str) -> None:
        """Note that the sender cleared what `slot` said at `path`."""
        if self.shared:
            self._own()
        if self.slots is not None:
            self.slots.setdefault(slot, [])
        self.cleared += (f"{self.type}.{path}",)

    def entry(self) -> Entry:
        """Return the finished entry."""
        cleared = self.cleared and tuple(dict.fromkeys(self.cleared))
        if self.shared:
            return Entry(self.shared.resource(self.type, self.id), self.slots, cleared, self.deleted, shared=True)
        if self.slots is not None:
            self.resource = assemble(self.type, self.id, self.slots)
        return Entry(self.resource, self.slots, cleared, self.deleted)


Mentioned = tuple[str, str, "Shared"]
"""A thing that a text mentions: its type, its id, what is said of it."""


def mentioned(nodes: Iterable[Node]) -> list[Mentioned]:
    """Return what has been said of some things, to be said again; a mention says nothing twice."""
    return [(node.type, node.id, node.shared or Shared(node.slots or {}, ())) for node in nodes]


class Shared:
    """What some words say of a thing that lives on, finished: many messages bring the same ones, and nobody changes it.

    - `resource` gives the assembled resource, the same object for the same thing.
    - `pointing` gives the same with a reference said besides.
    """

    __slots__ = ("_pointing", "_resources", "_twice", "slots")

    def __init__(self, slots: Slots, twice: tuple[str, ...] | None = None) -> None:
        self.slots = slots
        self._resources: dict[str, Resource] = {}
        self._pointing: dict[tuple[str, str, str], Shared] = {}
        self._twice = twice

    def resource(self, type_name: str, node_id: str) -> Resource:
        """Return the resource that the slots describe."""
        made = self._resources.get(node_id)
        if made is None:
            made = assemble(type_name, node_id, self.slots)
            if len(self._resources) < _FEW:
                self._resources[node_id] = made
        return made

    def pointing(self, slot: str, path: str, pointer: dict[str, str], many: bool) -> Shared | None:
        """Return what is said with a reference besides; None where too many things have been pointed at."""
        key = (slot, path, pointer["reference"])
        made = self._pointing.get(key)
        if made is None and len(self._pointing) < _FEW:
            have, new = self.slots.get(slot, []), (path, [pointer] if many else pointer)
            made = Shared({**self.slots, slot: [*have, new]}) if new not in have else self
            self._pointing[key] = made
        return made

    def twice(self) -> tuple[str, ...]:
        """Return the slots that say two things of an element that holds one."""
        if self._twice is None:
            self._twice = said_twice(self.slots)
        return self._twice


_FEW = 4
"""Things that the same words are kept for: a visit's text is of one patient, but for an error."""


def said_twice(slots: Slots) -> tuple[str, ...]:
    """Return the slots that say two things of an element that holds one value."""
    return tuple([slot for slot, said in slots.items() if len(said) > 1 and slot[0] != "~" and _differ(said)])


def _differ(said: list[tuple[str, Any]]) -> bool:
    values: dict[str, Any] = {}
    for path, value in said:
        if value.__class__ is list or path == "status":
            continue
        have = values.setdefault(path, value)
        if have is not value and have != value:
            if have.__class__ is not dict or value.__class__ is not dict:
                return True
            if any(have[name] != value[name] for name in have.keys() & value.keys()):
                return True
            values[path] = {**have, **value}
    return False


def within(target: dict[str, Any], parents: Sequence[str]) -> dict[str, Any]:
    """Return the element further in, made where it is missing; a copy, for what is there may be shared by messages."""
    for name in parents:
        target[name] = target = {**target.get(name, {})}
    return target


def put(target: dict[str, Any], path: str, value: Any) -> None:
    """Set `value` at a dotted path; a list is appended to what stands there."""
    *parents, last = path.split(".")
    target = within(target, parents)
    if isinstance(value, list):
        target[last] = have = [*target.get(last, ())]
        add_new(have, value)
    else:
        target[last] = value
