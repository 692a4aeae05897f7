"""Walks Bundles entry by entry and tells each entry what the URNs that it refers to stand for."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from mappings.engine.ids import resource_id
from tasks.errors import BadRecord
from tasks.model import WITHDRAWN, Finding, Frame, Position
from tasks.parse.fhir_scan import Scan, TruncatedError

LOOK_AHEAD = 8 * 1024 * 1024
"""Bytes of entries that wait for a later entry to say what a URN stands for."""

_WORD = 1024
_URN = re.compile(rb'"reference"\s*:\s*"(urn:[^"\\]+)"')
_REST = re.compile(r"(?:\S*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/\S*)?")


class _Request(msgspec.Struct):
    method: str | None = None
    url: str | None = None
    if_none_exist: str | None = msgspec.field(default=None, name="ifNoneExist")


class _Response(msgspec.Struct):
    last_modified: str | None = msgspec.field(default=None, name="lastModified")


class _Search(msgspec.Struct):
    mode: str | None = None


class _Extension(msgspec.Struct):
    url: str | None = None
    value: bool | None = msgspec.field(default=None, name="valueBoolean")


class _Entry(msgspec.Struct):
    full_url: str | None = msgspec.field(default=None, name="fullUrl")
    resource: msgspec.Raw = msgspec.Raw(b"")
    request: _Request = msgspec.field(default_factory=_Request)
    response: _Response = msgspec.field(default_factory=_Response)
    search: _Search = msgspec.field(default_factory=_Search)
    extension: tuple[_Extension, ...] = ()


class _Named(msgspec.Struct):
    type: str | None = msgspec.field(default=None, name="resourceType")
    id: str | None = None


_entry = msgspec.json.Decoder(_Entry)
_parts = msgspec.json.Decoder(dict[str, msgspec.Raw])
_named = msgspec.json.Decoder(_Named)


@dataclass(slots=True)
class _Waiting:
    """A frame's parts while it waits for what its URNs stand for."""

    location: str
    data: bytes
    following: Position
    context: dict[str, Any]
    findings: tuple[Finding, ...]
    urns: frozenset[str]


class BundleReader:
    """Reads the frames of one delivery from a position; `key` gives a resource's key from its bytes."""

    def __init__(
        self, chunks: Iterable[bytes], start: Position, limit: int, key: Callable[[bytes], bytes | None]
    ) -> None:
        self._scan = Scan(chunks, start.offset)
        self._limit = limit
        self._key = key
        self._ordinal = start.ordinal
        self._frames = start.ordinal
        self._bundle = int(start.context.get("bundle", 0))
        self._number = int(start.context.get("entry", 0))
        self._inside = bool(start.context)
        self._links: dict[str, str] = dict(start.context.get("links", {}))
        self._fresh = start.offset == 0

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in order; those that refer forwards wait for what they refer to, within `LOOK_AHEAD`."""
        waiting: deque[_Waiting] = deque()
        size = 0
        try:
            for one in self._entries():
                waiting.append(one)
                size += len(one.data)
                while waiting and (size > LOOK_AHEAD or self._is_ready(waiting[0])):
                    size -= len(waiting[0].data)
                    yield self._frame(waiting.popleft())
        except BadRecord:
            yield from map(self._frame, waiting)
            raise
        yield from map(self._frame, waiting)

    def _is_ready(self, one: _Waiting) -> bool:
        links = one.following.context["links"]
        return one.urns <= links.keys() or links is not self._links

    def _frame(self, one: _Waiting) -> Frame:
        if one.urns:
            links = one.following.context["links"]
            one.context["links"] = {urn: links[urn] for urn in sorted(one.urns) if urn in links}
        key = None if one.findings or "deletes" in one.context else self._key(one.data)
        ordinal, self._ordinal = self._ordinal, self._ordinal + 1
        return Frame(ordinal, one.location, one.data, one.following, key, one.context, one.findings)

    def _entries(self) -> Iterator[_Waiting]:
        if self._fresh:
            self._scan.skip_bom()
        try:
            while self._inside or self._scan.peek():
                yield from self._bundle_entries()
        except TruncatedError:
            raise self._bad("truncated") from None
        if not self._bundle:
            raise self._bad("not-a-bundle")

    def _bundle_entries(self) -> Iterator[_Waiting]:
        """Yield what one bundle holds, from its beginning or from inside its entries."""
        if self._inside:
            yield from self._array()
            self._inside = False
            named = True
        else:
            self._expect("{")
            self._bundle += 1
            self._number = 0
            self._links = {}
            named = False
        while (name := self._next_name()) is not None:
            if name == b'"entry"':
                # entries that are not in a list are none that one may pass over in silence
                self._expect("[")
                yield from self._array()
            elif name == b'"resourceType"':
                named = self._scan.value(_WORD) == b'"Bundle"'
                if not named:
                    raise self._bad("not-a-bundle")
            else:
                self._scan.value(0)
        if not named:
            raise self._bad("not-a-bundle")

    def _next_name(self) -> bytes | None:
        """Pass to the next property's value and return its name in quotes; None at the bundle's end."""
        if self._scan.peek() == ",":
            self._scan.take()
        if (here := self._scan.peek()) == "}":
            self._scan.take()
            return None
        if not here:
            raise TruncatedError
        if here != '"':
            raise self._bad("not-a-bundle")
        name = self._scan.value(_WORD)
        self._expect(":")
        return name or b""

    def _expect(self, character: str) -> None:
        here = self._scan.peek()
        if not here:
            raise TruncatedError
        if here != character:
            raise self._bad("not-a-bundle")
        self._scan.take()

    def _array(self) -> Iterator[_Waiting]:
        while (here := self._scan.peek()) != "]":
            if not here:
                raise TruncatedError
            if here in ",":
                self._scan.take()
                continue
            if here in "}:":
                raise self._bad("not-a-bundle")
            data = self._scan.value(self._limit)
            self._number += 1
            one = self._read(data)
            if one is not None:
                yield one
        self._scan.take()

    def _place(self) -> str:
        return f"entry {self._number}" if self._bundle <= 1 else f"bundle {self._bundle} entry {self._number}"

    def _bad(self, code: str) -> BadRecord:
        return BadRecord(Finding(code, self._place(), "error"))

    def _read(self, data: bytes | None) -> _Waiting | None:
        """Return what an entry holds; None where it is no record."""
        if data is None:
            return self._waiting(b"", {}, "too-large")
        try:
            entry = _entry.decode(data)
            if _has_two(data):
                return self._waiting(data, {}, "duplicate-key")
            raw = bytes(entry.resource)
            named = _named.decode(raw) if raw else _Named()
        except (ValueError, RecursionError):
            return self._waiting(data, {}, "not-an-entry")
        if entry.search.mode == "outcome":
            return None
        context = _context(entry, named)
        return self._waiting(raw or data, context, _problem(entry, named, raw, context))

    def _waiting(self, data: bytes, context: dict[str, Any], code: str | None) -> _Waiting:
        if context.get("identity") and context.get("fullUrl", "").startswith("urn:") and "type" in context:
            target = f"{context['type']}/{context['identity']}"
            if self._links.setdefault(context["fullUrl"], target) != target and code is None:
                # of two that are called the same, nobody knows which one a reference means
                code = "duplicate-full-url"
        place = {"bundle": self._bundle, "entry": self._number, "links": self._links}
        self._frames += 1
        return _Waiting(
            location=self._place(),
            data=data,
            following=Position(self._scan.offset, self._frames, place),
            context=context,
            findings=(Finding(code, self._place(), "error"),) if code else (),
            urns=frozenset(urn.decode() for urn in _URN.findall(data)) if b'"urn:' in data else frozenset(),
        )


def _context(entry: _Entry, named: _Named) -> dict[str, Any]:
    method = entry.request.method
    url = _REST.fullmatch(entry.request.url or "") if method in {"PUT", "DELETE", "PATCH"} else None
    context: dict[str, Any] = {
        "fullUrl": entry.full_url,
        "method": method,
        "url": entry.request.url,
        "lastModified": entry.response.last_modified,
        "type": named.type or (url and url["type"]),
        "identity": named.id or (url and url["id"]) or _conditioned(entry, named) or _identity(entry.full_url),
    }
    if method == "DELETE" and url:
        context["deletes"] = f"{url['type']}/{url['id']}"
    elif named.type and named.id and any(one.url == WITHDRAWN and one.value for one in entry.extension):
        context["deletes"] = f"{named.type}/{named.id}"
    return {name: value for name, value in context.items() if value is not None}


def _conditioned(entry: _Entry, named: _Named) -> str | None:
    """Return an id made of the condition under which an entry is created or updated: the same in every bundle."""
    request = entry.request
    updates = request.method == "PUT" and "?" in (request.url or "")
    condition = (request.url or "").partition("?")[2] if updates else request.if_none_exist
    return resource_id("condition", named.type, condition.lstrip("?")) if condition and named.type else None


def _identity(full_url: str | None) -> str | None:
    if full_url is None:
        return None
    if full_url.startswith("urn:"):
        return full_url.rpartition(":")[2]
    found = _REST.fullmatch(full_url)
    return found["id"] if found else full_url


def _has_two(data: bytes) -> bool:
    """Say whether an entry has one of its own names twice, of which the last would win in silence."""
    parts = _parts.decode(data)
    inside = sum(part.count(b'":') for part in map(bytes, parts.values()))
    return data.count(b'":') > inside + len(parts)


def _problem(entry: _Entry, named: _Named, raw: bytes, context: dict[str, Any]) -> str | None:
    if entry.request.method == "DELETE":
        return None if "deletes" in context else "conditional-delete"
    if entry.request.method in {"GET", "HEAD"}:
        return "unsupported-method"
    if not raw:
        return None if "deletes" in context else "no-resource"
    url = _REST.fullmatch(entry.request.url or "") if entry.request.method == "PUT" else None
    if url and (named.type, named.id or url["id"]) != (url["type"], url["id"]):
        return "entry-url-differs"
    return None
