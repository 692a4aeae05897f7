"""Create, update and delete, alone or many in one transaction (FHIR R4, RESTful API 3.1.0.4 to 3.1.0.11)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl
from uuid import uuid4

from infra.dev.fhir import reading
from infra.dev.fhir.checks import require_valid
from infra.dev.fhir.criteria import criteria
from infra.dev.fhir.definitions import RESOURCE_TYPES
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import Answer, Asking, require_id, require_type, version_of
from infra.dev.fhir.references import Place, link
from infra.dev.fhir.search import find
from infra.dev.fhir.store import Db, Key, Tick, Version, Write, apply, begin
from tasks.model import Resource

READING, WRITING = ("GET", "HEAD"), ("POST", "PUT", "DELETE")


@dataclass(frozen=True, slots=True)
class Entry:
    """One interaction; `path` has no slash at either end, `index` is its place in a bundle, None outside of one."""

    method: str
    path: str
    query: str = ""
    resource: Resource | None = None
    full_url: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_none_exist: str | None = None
    index: int | None = None

    @property
    def kind(self) -> str:
        """The resource type that it is about."""
        return self.path.partition("/")[0]


def require_right(entry: Entry, ask: Asking) -> None:
    """Raise `Refusal` 403 where the client may not do what `entry` asks for."""
    kind, searches = entry.kind, "/" not in entry.path
    letter = {"POST": "c", "PUT": "u", "DELETE": "d"}.get(entry.method, "s" if searches else "r")
    if kind != "metadata":
        ask.rights.require(kind if kind in RESOURCE_TYPES else "*", letter)


def require_sound(entry: Entry) -> None:
    """Raise `Refusal` where a writing `entry` cannot be carried out whatever the store holds."""
    parts = entry.path.split("/")
    require_type(parts[0])
    shape = {"POST": len(parts) == 1 and not entry.query, "PATCH": False}
    if not shape.get(entry.method, (len(parts) == 2) != bool(entry.query) and len(parts) < 3):
        raise Refusal(405, "this interaction is not one of this address")
    if len(parts) == 2:
        require_id(parts[1])
    if entry.method != "DELETE":
        _require_body(entry, parts)


def _require_body(entry: Entry, parts: list[str]) -> None:
    resource = entry.resource
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise Refusal(400, "there is no resource to write", code="required")
    if resource["resourceType"] != parts[0]:
        raise Refusal(400, "the resource is not of the type that the address names", expression="resourceType")
    if entry.method == "PUT":
        if len(parts) == 2 and resource.get("id") != parts[1]:
            raise Refusal(400, "the resource's id is not the one that the address names", expression="id")
        if "id" in resource:
            require_id(resource["id"])
    require_valid(resource)


def perform(db: Db, entries: Sequence[Entry], ask: Asking) -> list[Answer]:
    """Carry out `entries`, which are sound, in the transaction that is open, in the standard's order.

    Deletions, creations, updates, then reads. Returns the answers in the order of `entries`. Raises `Refusal`, naming
    the entry where it is one of a bundle; the caller then rolls back.
    """
    answers: dict[int, Answer] = {}
    if any(entry.method in WRITING for entry in entries):
        _Writing(db, begin(db, len(entries)), ask, entries, answers).run()
    for n, entry in enumerate(entries):
        if entry.method in READING:
            with naming(entry):
                known = reading.Known(entry.if_none_match, entry.if_modified_since)
                answers[n] = reading.get(db, ask, entry.path, entry.query, known)
    return [answers[n] for n in range(len(entries))]


@contextmanager
def naming(entry: Entry) -> Iterator[None]:
    """Let a refusal name the bundle's entry that it is about."""
    try:
        yield
    except Refusal as refusal:
        raise refusal if entry.index is None else refusal.at(entry.index) from None


@dataclass(slots=True)
class _Writing:
    """The writing part of a transaction; `answers` is filled by the entries' positions."""

    db: Db
    tick: Tick
    ask: Asking
    entries: Sequence[Entry]
    answers: dict[int, Answer]
    taken: set[Key] = field(default_factory=set)

    def run(self) -> None:
        """Delete, find out who is who, then write: references may name what is created beside them."""
        self._apply([(n, self._deleting(n, entry)) for n, entry in self._of("DELETE")])
        writes = [(n, self._creating(n, entry)) for n, entry in self._of("POST")]
        writes += [(n, self._updating(entry)) for n, entry in self._of("PUT")]
        waiting = self._link(writes)
        self._apply([(n, write) for n, write in writes if n not in waiting])
        for n, places in waiting.items():
            with naming(self.entries[n]):
                for place in places:
                    place.set(self._searched(place.text))
        self._apply([(n, write) for n, write in writes if n in waiting])

    def _of(self, method: str) -> list[tuple[int, Entry]]:
        return [(n, entry) for n, entry in enumerate(self.entries) if entry.method == method]

    def _apply(self, writes: Sequence[tuple[int, Write | None]]) -> None:
        due = [(n, write) for n, write in writes if write is not None]
        if not due:
            return
        versions = apply(self.db, self.tick, [write for _, write in due], self.ask.base)
        self.tick = Tick(self.tick.updated, self.tick.vid + len(due))
        for (n, write), version in zip(due, versions, strict=True):
            status = 204 if write.body is None else 201 if version.created else 200
            self.answers[n] = Answer(status, version, written=True)

    def _deleting(self, n: int, entry: Entry) -> Write | None:
        with naming(entry):
            key = self._target(entry)
            if key is None:
                self.answers[n] = Answer(204, written=True)
                return None
            return self._write(entry, key, None)

    def _creating(self, n: int, entry: Entry) -> Write | None:
        with naming(entry):
            if entry.if_none_exist is not None:
                found = self._matching(entry.kind, entry.if_none_exist)
                if found is not None:
                    self.answers[n] = Answer(200, found, written=True)
                    return None
            return self._write(entry, (entry.kind, str(uuid4())), entry.resource)

    def _updating(self, entry: Entry) -> Write:
        with naming(entry):
            body = entry.resource or {}
            found = self._target(entry)
            if found is None:
                new = entry.if_match is None and "id" not in body
                found = entry.kind, str(uuid4()) if new else body.get("id", "")
            elif body.get("id", found[1]) != found[1]:
                raise Refusal(400, "the resource's id is not the one of the resource that the condition finds")
            return self._write(entry, found, body)

    def _target(self, entry: Entry) -> Key | None:
        if not entry.query:
            kind, _, id_ = entry.path.partition("/")
            return kind, id_
        found = self._matching(entry.kind, entry.query)
        return found.key if found else None

    def _write(self, entry: Entry, key: Key, body: Resource | None) -> Write:
        if key in self.taken:
            raise Refusal(400, "two entries of the transaction are about one resource", code="duplicate")
        self.taken.add(key)
        named = None if body is None else {**body, "id": key[1]}
        return Write(key, entry.method, named, version_of(entry.if_match), entry.index)

    def _matching(self, kind: str, query: str) -> Version | None:
        """Return the one resource that a condition finds; raise `Refusal` 412 where it finds several."""
        pairs = parse_qsl(query.partition("?")[2] or query, keep_blank_values=True)
        wanted = criteria(require_type(kind), pairs, replace(self.ask, strict=True))
        if not wanted.where:
            raise Refusal(412, "the condition has no criterion", code="multiple-matches")
        found = find(self.db, wanted, 2)
        if len(found) > 1:
            raise Refusal(412, "the condition finds more than one resource", code="multiple-matches")
        return found[0] if found else None

    def _searched(self, reference: str) -> str:
        kind, _, query = reference.partition("?")
        found = self._matching(kind, query)
        if found is None:
            raise Refusal(412, "a conditional reference finds no resource", code="not-found")
        return "/".join(found.key)

    def _link(self, writes: Sequence[tuple[int, Write | None]]) -> dict[int, list[Place]]:
        """Replace in every body what the bundle's fullUrls name; return the conditional references by entry."""
        names: dict[str, str] = {}
        for n, write in writes:
            key = write.key if write else self.answers[n].key
            names[self.entries[n].full_url or ""] = "/".join(key)
        waiting: dict[int, list[Place]] = {}
        for n, write in writes:
            if write is None or write.body is None:
                continue
            with naming(self.entries[n]):
                conditional = link(write.body, names, self.entries[n].index is not None)
            if conditional:
                waiting[n] = conditional
        return waiting
