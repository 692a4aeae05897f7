"""Pages of a FHIR server's answers: searches walked by `_lastUpdated`, histories, single resources.

Source: FHIR R4, "Search" (`_lastUpdated`, `_sort`, `_include`, paging by `next` links) and "RESTful API" (history).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any

import httpx
import msgspec

from mappings.engine import json
from tasks.errors import Permanent, Transient
from tasks.http import TRANSIENT_STATUS, Retry, asked_wait, place, plainly
from tasks.source.bulk_job import said_by

LARGEST = 256 << 20
"""Bytes of one answer."""
GRAIN = timedelta(seconds=1)
"""What a server may have rounded the times that it shows by."""
_JSON = "application/fhir+json"


class _Link(msgspec.Struct):
    relation: str = ""
    url: str = ""


class _Bundle(msgspec.Struct):
    resource_type: str = msgspec.field(default="", name="resourceType")
    link: list[_Link] = []
    entry: list[msgspec.Raw] = []


class _Meta(msgspec.Struct):
    version_id: str | None = msgspec.field(default=None, name="versionId")
    last_updated: str | None = msgspec.field(default=None, name="lastUpdated")


class _Resource(msgspec.Struct):
    type: str = msgspec.field(default="", name="resourceType")
    id: str = ""
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Mode(msgspec.Struct):
    mode: str = "match"


class _Request(msgspec.Struct):
    method: str | None = None
    url: str = ""


class _Response(msgspec.Struct):
    etag: str | None = None
    last_modified: str | None = msgspec.field(default=None, name="lastModified")


class _Entry(msgspec.Struct):
    resource: _Resource | None = None
    search: _Mode = msgspec.field(default_factory=_Mode)
    request: _Request = msgspec.field(default_factory=_Request)
    response: _Response = msgspec.field(default_factory=_Response)


_bundle = msgspec.json.Decoder(_Bundle)
_entry = msgspec.json.Decoder(_Entry)


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a page.

    - `raw` is the entry as the server sent it; `mark` a digest of type, id and version, by which it is known again.
    - `updated` is when the server wrote it; None where it does not say. `mode` is `match`, `include` or `outcome`.
    """

    raw: bytes
    mark: str
    updated: datetime | None
    mode: str = "match"
    deletes: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: its entries, the address of the next one, the server's clock.

    - `in_order`: the server says that it sorted by `_lastUpdated`, and the entries bear it out.
    """

    items: tuple[Item, ...]
    following: str | None
    date: datetime
    in_order: bool = False

    @property
    def newest(self) -> datetime | None:
        """The newest time among what was searched for."""
        return max((item.updated for item in self.items if item.updated and item.mode == "match"), default=None)


class Asker:
    """Asks one server, patiently; every address stays at the server's own host."""

    def __init__(self, http: httpx.Client, base: str, retry: Retry) -> None:
        self.http, self.base, self._retry = http, base.rstrip("/"), retry

    def get(self, url: str, what: str, good: Sequence[int] = (200,)) -> httpx.Response:
        """Return the answer, whose status is one of `good`; raises `Transient`, or `Permanent` for any other."""
        return self.send("GET", url, what, None, good)

    def send(self, method: str, url: str, what: str, body: Any, good: Sequence[int]) -> httpx.Response:
        """Send a resource, or nothing where it is None; return and raise as `get` does."""
        self._require_home(url, what)
        for attempt in range(1, self._retry.attempts + 1):
            response: httpx.Response | None = None
            try:
                with plainly(what, url):
                    response = self._send(method, url, what, body)
            except Transient:
                if attempt == self._retry.attempts:
                    raise
            if response is not None and response.status_code not in TRANSIENT_STATUS:
                break
            if attempt < self._retry.attempts:
                time.sleep(self._retry.delay(attempt, asked_wait(response, self._retry.ceiling)))
        assert response is not None  # noqa: S101 - the last failure was raised
        if response.status_code in good:
            return response
        if response.status_code in TRANSIENT_STATUS:
            raise Transient(f"{what}: {said_by(response)} after {self._retry.attempts} attempts; the next poll goes on")
        raise Permanent(f"{what}: {said_by(response)}{_HINTS.get(response.status_code, '')}")

    def _send(self, method: str, url: str, what: str, body: Any) -> httpx.Response:
        headers = {"Accept": _JSON, "Prefer": "handling=strict", "Cache-Control": "no-cache"}
        content = None
        if body is not None:
            content, headers["Content-Type"] = json.dumps(body), _JSON
        with self.http.stream(method, url, headers=headers, content=content) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > LARGEST:
                    raise Permanent(f"{what}: an answer of more than {LARGEST >> 20} MiB; lower `source.count`")
        dropped = ("content-encoding", "content-length", "transfer-encoding")
        kept = {name: value for name, value in response.headers.items() if name not in dropped}
        return httpx.Response(response.status_code, headers=kept, content=bytes(data), request=response.request)

    def _require_home(self, url: str, what: str) -> None:
        if place(url) != place(self.base):
            raise Permanent(
                f"{what}: the server's link leads to {place(url)}, and its authorization is for {place(self.base)}"
                " alone; write the address by which the server knows itself into base_url"
            )

    def page(self, url: str, what: str) -> Page:
        """Return one page; raises `Permanent` where the answer is no Bundle."""
        response = self.get(url, what)
        try:
            bundle = _bundle.decode(response.content)
        except (msgspec.DecodeError, RecursionError):
            bundle = _Bundle()
        if bundle.resource_type != "Bundle":
            raise Permanent(f"{what}: {place(url)} answered with something that is not a Bundle")
        links = {link.relation: link.url for link in bundle.link}
        items = tuple(read_item(bytes(raw)) for raw in bundle.entry)
        following = str(response.url.join(links["next"])) if links.get("next") else None
        times = [item.updated for item in items if item.mode == "match"]
        in_order = "_sort=_lastUpdated" in links.get("self", "") and _ascending(times)
        return Page(items, following, server_date(response.headers), in_order)


_HINTS = {
    400: "; the server refuses a parameter: see `source.search` and `source.include`",
    401: "; check the connection's credentials",
    403: "; the client's scope does not allow it",
    404: "; the server does not have this type, or base_url is not its base",
}


def walk(asker: Asker, kind: str, query: Sequence[tuple[str, str]], since: datetime | None) -> Iterator[Page]:
    """Yield the pages of a type's search, the oldest change first where the server sorts.

    Where it does, every page begins anew at the last one's newest time: what changes during the walk moves to the end
    and pushes nothing out of a page that is asked for later.
    """
    what = f"the search for {kind}"
    url: str | None = search_url(asker.base, kind, query, since)
    asked: set[str] = set()
    while url:
        if url in asked:
            raise Permanent(f"{what}: the server's pages lead back to each other")
        asked.add(url)
        page = asker.page(url, what)
        yield page
        url = page.following
        newest = page.newest
        if url and page.in_order and newest and (since is None or newest - GRAIN > since):
            since = newest - GRAIN
            url = search_url(asker.base, kind, query, since)


def search_url(base: str, kind: str, query: Sequence[tuple[str, str]], since: datetime | None) -> str:
    """Return the URL of a search by `query` for what was changed at or after `since`, oldest change first."""
    when = [("_lastUpdated", f"ge{instant(since)}")] if since else []
    return f"{base}/{kind}?{httpx.QueryParams([*query, *when, ('_sort', '_lastUpdated')])}"


def history(asker: Asker, kind: str, since: datetime, count: int) -> Iterator[Page]:
    """Yield the pages of a type's history since a moment, as the server orders them."""
    what = f"the history of {kind}"
    url: str | None = (
        f"{asker.base}/{kind}/_history?{httpx.QueryParams({'_since': instant(since), '_count': str(count)})}"
    )
    asked: set[str] = set()
    while url:
        if url in asked:
            raise Permanent(f"{what}: the server's pages lead back to each other")
        asked.add(url)
        page = asker.page(url, what)
        yield page
        url = page.following


def instant(moment: datetime) -> str:
    """Return a moment as a FHIR instant in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_instant(text: str | None) -> datetime | None:
    """Return the moment of a FHIR instant; None where the text is none."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo else None


def server_date(headers: Mapping[str, str]) -> datetime:
    """Return the server's clock (RFC 9110, Date); ours where it shows none."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).astimezone(UTC)
    except (TypeError, ValueError):
        return datetime.now(UTC)


def mark_of(*parts: str) -> str:
    """Return a short digest of what names a version."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=9).hexdigest()


def read_item(raw: bytes) -> Item:
    """Return what is needed of an entry of a Bundle."""
    try:
        entry = _entry.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        # landed as it is: reading it gives the finding
        return Item(raw, mark_of("?", hashlib.sha256(raw).hexdigest()), None)
    resource, response = entry.resource, entry.response
    if entry.request.method == "DELETE" or (resource is None and entry.search.mode != "outcome"):
        version = response.etag or response.last_modified or ""
        mark = mark_of("-", entry.request.url, version) if version else mark_of("-", hashlib.sha256(raw).hexdigest())
        return Item(raw, mark, parse_instant(response.last_modified), deletes=True)
    if resource is None or not resource.id or not resource.meta.version_id:
        mark = mark_of("?", hashlib.sha256(raw).hexdigest())
    else:
        meta = resource.meta
        mark = mark_of(resource.type, resource.id, meta.version_id or "", meta.last_updated or "")
    updated = parse_instant(resource.meta.last_updated if resource else None)
    return Item(raw, mark, updated or parse_instant(response.last_modified), entry.search.mode)


def _ascending(times: Sequence[datetime | None]) -> bool:
    known = [time for time in times if time]
    return len(known) == len(times) and all(a <= b for a, b in pairwise(known))
