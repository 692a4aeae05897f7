"""One message on its way through the compiled maps: its resources, its findings, what is in scope."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from mappings.engine import times
from mappings.engine.ids import encode, named, scope_of
from mappings.engine.model import Conversion, Finding, Profile, Severity, UnmappedCode
from mappings.engine.nodes import Mentioned, Node, mentioned
from mappings.engine.protocols import Message, Segment
from mappings.engine.scopes import Scope, Shape
from mappings.engine.tables import Table

CACHED = 50_000
CACHED_LENGTH = 500
_T = TypeVar("_T")
ALTERNATE = "http://hl7.org/fhir/StructureDefinition/alternate-codes"
_SEVERITY: dict[str, Severity] = {"unmapped-field": "information", "unmapped-segment": "information"}


@lru_cache(maxsize=65536)
def _mentioned_id(text: str) -> str:
    """Return the id of what is mentioned; the same physicians and wards come in message after message."""
    return named(text)


@lru_cache(maxsize=4096)
def _local_system(partner: str, name: str) -> str:
    return f"urn:sluice:{quote(partner, safe='')}:{quote(name, safe='')}"


def _sent_offset(message: Message) -> str | None:
    """Return MSH-7's offset: the standard's default for the message's other times, where the feed names no zone."""
    header = message.first("MSH")
    sent = header.value(7) if header is not None else ""
    return sent[-5:] if len(sent) > 5 and sent[-5] in "+-" else None


class Recipe:
    """What a data type's map makes of one value: the things it mentions, and the reference to the last."""

    __slots__ = ("reference", "things")

    def __init__(self, reference: str, things: list[Mentioned]) -> None:
        self.reference = reference
        self.things = things


class Made(Protocol):
    """What a run needs of the compiled maps."""

    version: str
    calls: dict[str, Callable[..., Any]]
    tables: dict[str, Table]


_NOWHERE = Shape("message", None, 0)


class Run:
    """What the compiled maps read and write while they convert one message."""

    __slots__ = (
        "cache",
        "conversion",
        "later",
        "links",
        "listed",
        "lost",
        "maps",
        "marks",
        "memory",
        "message",
        "node",
        "nodes",
        "order",
        "partner",
        "profile",
        "recall",
        "scope",
        "scopes",
        "seg",
        "shared",
        "tables",
        "timezone",
        "waiting",
    )

    def __init__(self, message: Message, profile: Profile, made: Made) -> None:
        self.message = message
        self.marks = message.cuts
        self.profile = profile
        self.partner = profile.partner
        self.timezone = profile.timezone or _sent_offset(message)
        self.shared = profile.shared_authorities
        self.maps = made.calls
        self.tables = made.tables
        self.conversion = Conversion(mapping_version=made.version)
        self.nodes: dict[tuple[str, str], Node] = {}
        self.order: list[Node] = []
        self.scope = Scope(_NOWHERE, None, message)
        self.scopes: list[Scope] = []
        self.node: Node | None = None
        self.seg: Segment | None = None
        self.lost: dict[str, Any] | None = None
        self.cache: dict[Any, Any] = {}
        self.recall: Any = None
        self.memory: dict[Any, Any] = {}
        self.later: list[tuple[Scope, Segment, Any]] = []
        self.links: list[tuple[Scope, Node, str, bool, str, str]] = []
        self.waiting: list[tuple[Scope, Segment, Any]] = []
        self.listed: list[tuple[Scope, Node, str, str, str]] = []

    @property
    def here(self) -> Scope | None:
        """The scope in which something is mentioned."""
        return self.scope

    @property
    def header(self) -> Segment:
        """The message's MSH, for rows of other segments that ask for the event (MSH-9)."""
        return self.message.segments[0]

    def find(self, code: str, at: str, severity: Severity | None = None) -> _T | None:
        """Note a finding at `at` (`5.1`) of the segment at hand; return None, for `return run.find(…)`."""
        self.conversion.findings.append(Finding(code, self.location(at), severity or _SEVERITY.get(code, "warning")))
        return None

    @contextmanager
    def reading(self, segment: Segment) -> Iterator[Segment]:
        """While it lasts, findings are about `segment`: for functions that read a neighbour."""
        before, self.seg = self.seg, segment
        try:
            yield segment
        finally:
            self.seg = before

    def location(self, at: str) -> str:
        """Return `PID-5.1`, or `OBX[3]-5` where the segment is not the first of its name."""
        if self.seg is None or "-" in at:
            return at
        name = f"{self.seg.name}[{self.seg.ordinal}]" if self.seg.ordinal > 1 else self.seg.name
        return f"{name}-{at}" if at else name

    def date_time(self, text: str, at: str) -> str | None:
        """Return a time as dateTime; None, with a finding, for what is not one."""
        return self.moment(times.read(text, self.timezone), at) if text else None

    def moment(self, read: times.Read, at: str, bad: str = "not-a-date") -> str | None:
        """Return a time that was read, with a finding where it is none (`bad`) or doubtful."""
        value, doubt = read
        if doubt or not value:
            self.find(doubt or bad, at)
        return value

    def unmapped(self, table: Table | str, system: str, code: str, at: str) -> None:
        """Note a code that is not in its table."""
        self.find("unmapped-code", at)
        name = table if isinstance(table, str) else table.name
        self.conversion.unmapped.append(UnmappedCode(name, system, code, self.location(at)))

    def take_lost(self) -> dict[str, Any]:
        """Return what has just been looked for in vain, as an extension of the element without a value."""
        return {"extension": [{"url": ALTERNATE, "valueCodeableConcept": self.lost or {}}]}

    def rest(self, components: Any, known: frozenset[int], at: str) -> None:
        """Note valued components that the data type's map does not know."""
        for number, component in enumerate(components, 1):
            if number not in known and component and any(component):
                self.find("unmapped-field", f"{at}.{number}")

    def local_system(self, name: str) -> str:
        """Return the URI of a coding system that only the partner knows."""
        return _local_system(self.partner, name)

    def content(self, name: str) -> list[str]:
        """Return the whole content of the segment at hand as a key, with a finding."""
        self.find("no-natural-key", "")
        seg = self.scope.segment(name) or self.seg
        parts = [] if seg is None else [repr(seg.field(n)) for n in range(1, seg.count + 1)]
        while parts and parts[-1] == "()":
            parts.pop()
        return [name, *parts]

    def mention(self, type_name: str, key: tuple[bool, list[str]]) -> Node:
        """Return the thing that a data type names (a practitioner, a location), the same for each mention."""
        return self.named(type_name, (key[0], encode(*key[1])))

    def named(self, type_name: str, key: tuple[bool, str]) -> Node:
        """Return what an encoded key names, as `mention` does."""
        return self.thing(type_name, key)

    def thing(self, type_name: str, key: tuple[bool, str]) -> Node:
        """Return the thing of a type that `key` names."""
        universal, text = key
        node_id = _mentioned_id(scope_of("" if universal else self.partner, type_name) + text)
        node = self.nodes.get((type_name, node_id))
        if node is None:
            node = self.add(Node(type_name, type_name, node_id, self.here, True))
        return node

    def cached(self, name: str, components: Any, at: str, table: Table | None, call: Callable[..., Any]) -> Any:
        """Return what `call` makes of `components`, from the cache where the same value has come before.

        What is found there is shared between messages: nobody changes it. What had a finding is not kept.
        """
        key = (name, table.name if table is not None else "", tuple(map(tuple, components)))
        hit = self.cache.get(key)
        if hit is None:
            return self._compute(key, components, at, table, call)
        return self._mentioning(hit) if hit.__class__ is Recipe else hit

    def _compute(self, key: Any, components: Any, at: str, table: Table | None, call: Callable[..., Any]) -> Any:
        nodes, order, before = self.nodes, self.order, len(self.conversion.findings)
        self.nodes, self.order = {}, []
        try:
            value = call(components, self, at, table)
            made = self.order
        finally:
            self.nodes, self.order = nodes, order
        if made and value is not None:
            value = Recipe(value["reference"], mentioned(made))
        size = sum(len(text) for subs in components for text in subs)
        if value is not None and before == len(self.conversion.findings) and size <= CACHED_LENGTH:
            if len(self.cache) >= CACHED:
                self.cache.clear()
            self.cache[key] = value
        return self._mentioning(value) if value.__class__ is Recipe else value

    def _mentioning(self, recipe: Any) -> dict[str, str]:
        self.apply(recipe.things)
        return {"reference": recipe.reference}

    def apply(self, things: list[Mentioned]) -> None:
        """Let things be mentioned in this message as they were before."""
        for type_name, node_id, shared in things:
            node = self.nodes.get((type_name, node_id))
            if node is None:
                self.add(Node(type_name, type_name, node_id, self.here, True)).share(shared)
            elif node.slots is not shared.slots:
                for slot, said in shared.slots.items():
                    for path, value in said:
                        node.mention(slot, path, value)

    def open(self, shapes: Sequence[Shape]) -> list[Scope]:
        """Return the message's scopes; the first, the message's own, is the run's from now on."""
        scopes: list[Scope] = []
        for shape in shapes:
            outer = scopes[shape.parent.number] if shape.parent is not None else None
            scopes.append(Scope(shape, outer, self.message))
        self.scope = scopes[0]
        self.scopes = scopes
        return scopes

    def close(self) -> None:
        """Let go of what is in the scopes, so that the message's things do not wait for the garbage collector."""
        for scope in self.scopes:
            scope.nodes.clear()

    def identity(self, type_name: str, scope: str, key: Iterable[str]) -> str:
        """Return the id of what `key` names."""
        return named(encode(scope, type_name, *key))

    def add(self, node: Node) -> Node:
        """Keep `node`; a second one with its type and id is the first."""
        have = self.nodes.setdefault((node.type, node.id), node)
        if have is node:
            self.order.append(node)
        return have

    def reference(self, label: str) -> dict[str, str] | None:
        """Return a reference to the nearest resource with `label`."""
        node = self.scope.find(label)
        return {"reference": f"{node.type}/{node.id}"} if node else None
