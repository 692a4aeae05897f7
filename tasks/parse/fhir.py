"""FHIR as NDJSON and as Bundles: one resource is one record (FHIR R4 section 2.6, Bundle; Bulk Data IG, NDJSON)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import msgspec

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import BEGIN, Finding, Frame, Parsed, Position
from tasks.parse.fhir_bundle import BundleReader
from tasks.parse.fhir_json import Unreadable, read
from tasks.parse.fhir_scan import Scan, TruncatedError

LIMIT = 50 * 1024 * 1024
"""Bytes of one resource that are still read; a longer one is refused unread, its neighbours are not."""

_HEAD = 1 << 16
_BOM = b"\xef\xbb\xbf"


class _Meta(msgspec.Struct):
    version_id: str | None = msgspec.field(default=None, name="versionId")
    last_updated: str | None = msgspec.field(default=None, name="lastUpdated")


class _Head(msgspec.Struct):
    meta: _Meta | None = None


_head = msgspec.json.Decoder(_Head)


def version_key(data: bytes) -> bytes | None:
    """Return the hash of a resource that names its own version, by which it is known again; None for any other."""
    try:
        meta = _head.decode(data).meta
    except (ValueError, RecursionError):
        return None
    named = meta is not None and meta.version_id and meta.last_updated
    return hashlib.sha256(data).digest() if named else None


def read_resource(frame: Frame) -> dict[str, Any]:
    """Return the resource in a frame.

    Raises `BadRecord` (`not-json`, `duplicate-key`, `number-out-of-range`, `not-a-resource`, the frame's own errors).
    """
    if errors := [finding for finding in frame.findings if finding.severity == "error"]:
        raise BadRecord(*errors)
    try:
        resource = read(frame.data)
    except Unreadable as error:
        raise BadRecord(Finding(error.code, error.path or frame.location, "error")) from None
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise BadRecord(Finding("not-a-resource", frame.location, "error"))
    return resource


class NdjsonFormat:
    """One resource a line; blank lines are passed over, a broken or overlong line is a record of its own.

    A file whose first resource is spread over lines, as programs print one for people, is read resource by resource.
    """

    def __init__(self, profile: Profile, limit: int = LIMIT) -> None:
        self._limit = limit

    def split(self, chunks: Iterable[bytes], start: Position = BEGIN) -> Iterator[Frame]:
        """Yield a frame for every line that is not blank, located by its line in the file (`line 17`)."""
        if not start.offset:
            first, chunks = _first_lines(chunks)
            if _is_spread(first):
                yield from self._spread(chunks, start)
                return
        elif "line" not in start.context:
            yield from self._spread(chunks, start)
            return
        ordinal = start.ordinal
        line = int(start.context.get("line", 1))
        for raw, offset in _lines(chunks, start.offset, self._limit):
            here, line = line, line + 1
            data = None if raw is None else raw.removeprefix(_BOM).strip()
            if data == b"":
                continue
            following = Position(offset, ordinal + 1, {"line": line})
            yield _frame(ordinal, f"line {here}", data, following)
            ordinal += 1

    def _spread(self, chunks: Iterable[bytes], start: Position) -> Iterator[Frame]:
        """Yield a frame for every JSON value, located by its number in the file (`resource 2`)."""
        scan, ordinal = Scan(chunks, start.offset), start.ordinal
        if not start.offset:
            scan.skip_bom()
        while scan.peek():
            location = f"resource {ordinal}"
            try:
                data = scan.value(self._limit)
            except TruncatedError:
                yield Frame(
                    ordinal,
                    location,
                    b"",
                    Position(scan.offset, ordinal + 1, {"resources": ordinal}),
                    findings=(Finding("truncated", location, "error"),),
                )
                return
            if not data and data is not None:
                # a stray comma or bracket is passed with the next value, which then is no JSON
                scan.take()
                data = b"?"
            yield _frame(ordinal, location, data, Position(scan.offset, ordinal + 1, {"resources": ordinal}))
            ordinal += 1

    def parse(self, frame: Frame) -> Parsed:
        """Return the resource in a line; raises `BadRecord` as `read_resource` does, and `too-large`."""
        return Parsed(frame, read_resource(frame))


def _first_lines(chunks: Iterable[bytes]) -> tuple[bytes, Iterable[bytes]]:
    """Take what holds the first two lines with something in them; return it and all chunks, it included."""
    held, chunks = b"", iter(chunks)
    for chunk in chunks:
        held += chunk
        if held.removeprefix(_BOM).strip().count(b"\n") or len(held) > _HEAD:
            break
    return held, chain((held,), chunks)


def _is_spread(head: bytes) -> bool:
    """Say whether a file's first lines are the beginning of one object: the first is open, the next begins none."""
    lines = [line.strip() for line in head.removeprefix(_BOM).split(b"\n") if line.strip()]
    opens = bool(lines) and lines[0].startswith(b"{") and lines[0].endswith((b"{", b",", b"[", b":"))
    return opens and len(lines) > 1 and not lines[1].startswith(b"{")


def _frame(ordinal: int, location: str, data: bytes | None, following: Position) -> Frame:
    if data is None:
        return Frame(ordinal, location, b"", following, findings=(Finding("too-large", location, "error"),))
    return Frame(ordinal, location, data, following, key=version_key(data))


def _lines(chunks: Iterable[bytes], offset: int, limit: int) -> Iterator[tuple[bytes | None, int]]:
    """Yield each line without its end, None where it is longer than `limit`, and the offset of the next."""
    rest = bytearray()
    dropped = 0
    for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            size = dropped + len(rest) + end - start
            offset += size + 1
            yield (bytes(rest) + chunk[start:end] if size <= limit else None), offset
            rest.clear()
            dropped = 0
            start = end + 1
        rest += chunk[start:]
        if len(rest) > limit:
            dropped += len(rest)
            rest.clear()
    if rest or dropped:
        size = dropped + len(rest)
        yield (bytes(rest) if size <= limit else None), offset + size


class BundleFormat:
    """One or more Bundles, each entry a record: collection, transaction, batch, message, searchset, history.

    - An entry whose `search.mode` is `outcome` is about the search and no record.
    - A frame's context holds the entry's `fullUrl`, `method`, `url`, `lastModified`, its `identity` (the resource's id,
      else that of the URL to PUT or DELETE, else that of fullUrl) and `links`: what the URNs it refers to stand for.
    """

    def __init__(self, profile: Profile, limit: int = LIMIT) -> None:
        self._limit = limit

    def split(self, chunks: Iterable[bytes], start: Position = BEGIN) -> Iterator[Frame]:
        """Yield a frame an entry; raises `BadRecord` (`not-a-bundle`, `truncated`) where reading cannot go on."""
        yield from BundleReader(chunks, start, self._limit, version_key).frames()

    def parse(self, frame: Frame) -> Parsed:
        """Return the entry's resource, only type and id where it is deleted.

        Raises `BadRecord` (`not-json`, `not-an-entry`, `no-resource`, `unsupported-method`, `conditional-delete`,
        `too-large`).
        """
        if "deletes" in frame.context and not frame.findings:
            kind, _, ident = str(frame.context["deletes"]).partition("/")
            return Parsed(frame, {"resourceType": kind, "id": ident})
        resource = read_resource(frame)
        if frame.context.get("method") == "PATCH" and resource["resourceType"] in {"Binary", "Parameters"}:
            raise BadRecord(Finding("unsupported-method", frame.location, "error"))
        return Parsed(frame, resource)
