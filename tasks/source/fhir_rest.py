"""A FHIR server that is polled (`kind: fhir-rest`): what changed since the last poll, type by type, deletions too.

A poll searches each type by `_lastUpdated` from a watermark on, less an overlap for what was committed late; what the
overlap shows again is known by its version and not taken again. Every page is a delivery, and the watermark moves with
the page's landing. With `subscribe` the server tells of changes, and a poll reads those first
(`tasks.source.fhir_subscription`). Source: FHIR R4, "Search", "RESTful API" (history).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from pydantic import Field, field_validator, model_validator

from mappings.engine import json
from mappings.engine.yamlfile import nearest
from tasks.errors import ConfigError, Permanent, Transient
from tasks.http import Retry, client
from tasks.http_auth import connection_auth, read_auth
from tasks.log import get_logger
from tasks.model import Offer
from tasks.source.fhir_rest_pages import (
    Asker,
    Item,
    Page,
    history,
    instant,
    mark_of,
    parse_instant,
    read_item,
    server_date,
    walk,
)
from tasks.source.fhir_subscription import Subscribe, Subscriptions
from tasks.source.port import SourceOptions, SourceState
from tasks.source.pushed import Duration, duration_seconds

TYPE = r"^[A-Z][A-Za-z]{1,63}$"
SEEN = 5_000
"""Versions inside the overlap that are remembered; of more the ledger knows the records again."""
CAPABILITIES = timedelta(days=1)
"""How long what a server offers is taken to be so."""
RESERVED = ("_lastUpdated", "_sort", "_count", "_summary", "_elements", "_format", "_include", "_revinclude")


class FhirRestOptions(SourceOptions):
    """A feed's `source:` block with `kind: fhir-rest`.

    - `base_url` may stand in the connection instead; `auth` is an auth file, else the connection's values are used.
    - `types` are polled in this order: write what others refer to first.
    - `search` narrows a type by a query (`Observation: category=laboratory`); `include` and `revinclude` are what comes
      along (`Observation:subject`).
    - `since` is where the first poll begins; without it, it takes everything.
    - `overlap` is how far behind the newest change a poll looks again, for what was committed late.
    - `deletions` says whether `_history` is asked for them; where nothing is said, where the server offers it.
    - `peer` names the destination that is the same server: what Sluice wrote there is recognised and not taken.
    - `copies` says what is done with a change that the server's own people make to what Sluice wrote there: `ignore`
      leaves the owner's word alone, `take` brings it back to the owner.
    - `count` is a page's size; `timeout` is in seconds; `attempts` and `backoff` are for requests that fail.
    """

    base_url: str | None = None
    auth: Path | None = None
    types: tuple[str, ...] = Field(min_length=1)
    search: dict[str, str] = Field(default_factory=dict)
    include: tuple[str, ...] = ()
    revinclude: tuple[str, ...] = ()
    since: datetime | None = None
    overlap: Duration = "5m"
    deletions: bool | None = None
    peer: str | None = None
    copies: str = Field(default="ignore", pattern="^(ignore|take)$")
    subscribe: Subscribe | None = None
    headers: dict[str, str] = Field(default_factory=dict)
    count: int = Field(default=200, ge=1, le=10_000)
    timeout: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=6, ge=1, le=50)
    backoff: float = Field(default=0.5, gt=0)

    @field_validator("types")
    @classmethod
    def _known_types(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        for kind in types:
            if not kind[:1].isupper() or not kind.isalpha():
                raise ValueError(f"{kind} is no FHIR resource type, as Patient or Observation is")
        if len(set(types)) < len(types):
            raise ValueError("a type stands there twice")
        return types

    @field_validator("since")
    @classmethod
    def _with_offset(cls, since: datetime | None) -> datetime | None:
        if since is not None and since.tzinfo is None:
            raise ValueError("a time with an offset is needed, as 2026-01-01T00:00:00Z is")
        return since

    @field_validator("copies", mode="before")
    @classmethod
    def _known_policy(cls, copies: Any) -> Any:
        if copies not in ("ignore", "take"):
            raise ValueError(f"`ignore` or `take` is needed{nearest(str(copies), ['ignore', 'take'])}")
        return copies

    @model_validator(mode="after")
    def _about_its_types(self) -> FhirRestOptions:
        for kind, query in self.search.items():
            if kind not in self.types:
                raise ValueError(f"`search` has {kind}, and `types` has not{nearest(kind, self.types)}")
            for name, _ in parse_qsl(query.lstrip("?"), keep_blank_values=True):
                if name in RESERVED:
                    raise ValueError(f"`search.{kind}`: {name} is set by the poll itself, or has an option of its own")
        for name in (*self.include, *self.revinclude):
            if name.count(":") not in (1, 2):
                raise ValueError("an include is Type:parameter, as Observation:subject is")
        for name in self.include:
            kind = name.partition(":")[0]
            if kind not in self.types:
                raise ValueError(f"`include` has {kind}, and `types` has not{nearest(kind, self.types)}")
        return self

    def mistakes(self, feed: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what of the feed's file does not go with this source."""
        if feed.get("format") != "fhir-bundle":
            yield ("format",), "a FHIR server that is polled hands over Bundles: write `format: fhir-bundle`"
        if self.subscribe and not feed.get("schedule"):
            yield (
                ("source", "subscribe"),
                "`subscribe` needs a `schedule:` beside it: polls renew the subscription and find what was not told",
            )
        if self.copies == "take" and not self.peer:
            yield ("source", "copies"), "`copies: take` needs `peer`: which destination's copies these are"

    def query(self, kind: str) -> list[tuple[str, str]]:
        """Return a type's search parameters, without the time."""
        own = parse_qsl(self.search.get(kind, "").lstrip("?"), keep_blank_values=True)
        along = [("_include", name) for name in self.include if name.startswith(f"{kind}:")]
        back = [("_revinclude", name) for name in self.revinclude]
        return [*own, *along, *back, ("_count", str(self.count))]


class FhirRestSource:
    """Hands over pages of changes.

    The cursor holds for each type the watermark `at`, `deleted_at` of its history, and the marks `seen` within the
    overlap; `offers` is what the server can do, `subscriptions` what was asked of it.
    """

    Options: ClassVar[type[SourceOptions]] = FhirRestOptions

    def __init__(self, options: FhirRestOptions, connection: Mapping[str, str]) -> None:
        url = options.base_url or connection.get("base_url")
        if not url:
            raise ConfigError("kind: fhir-rest needs base_url, in the feed's source or in its connection")
        auth = read_auth(options.auth) if options.auth else connection_auth(connection)
        self._options = options
        self._http = client(
            url, auth, headers=options.headers, timeout=options.timeout, connections=2, follow_redirects=True
        )
        self._asker = Asker(self._http, url, Retry(options.attempts, options.backoff))
        self._overlap = timedelta(seconds=duration_seconds(options.overlap))
        self._subscriptions = (
            Subscriptions(self._asker, options.subscribe, options.types, options.search, connection)
            if options.subscribe
            else None
        )
        self._page: tuple[str, bytes] = ("", b"")
        self._ended: dict[str, dict[str, str]] = {}

    def poll(self, state: SourceState) -> Iterator[Offer]:
        """Yield what was told of, then what changed and what was deleted since the last poll, a page an offer."""
        if self._subscriptions:
            self._subscriptions.keep(state)
        for offer in self._pages(state):
            if state.landed(offer.name, offer.version):
                # the same page word for word: more than the cursor remembers was changed within the overlap
                self.finish(offer, state)
            else:
                yield offer

    def _pages(self, state: SourceState) -> Iterator[Offer]:
        yield from self._noticed(state)
        for kind in self._options.types:
            has_history = self._has_history(kind, state)
            yield from self._changes(kind, state, has_history)
            if has_history:
                yield from self._deletions(kind, state)

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        """Yield the page's bytes; raises `Transient` where it is not the one that was offered last."""
        name, data = self._page
        if name != offer.name:
            raise Transient("the page is gone; the next poll asks for it again")
        yield data[offset:]

    def finish(self, offer: Offer, state: SourceState) -> None:
        """Move the watermark with the page that was landed; what was told of it is forgotten."""
        if offer.meta.get("notices"):
            state.noticed(offer.meta["notices"])
        if "mark" in offer.meta:
            self._advance(state, offer.meta["type"], offer.meta["mark"], offer.meta["seen"])

    def done(self, state: SourceState) -> None:
        """Move the watermarks of the types that were walked to their end."""
        for kind, mark in self._ended.items():
            self._advance(state, kind, mark, {})
        self._ended = {}

    def close(self) -> None:
        """Give up connections."""
        self._http.close()

    def _changes(self, kind: str, state: SourceState, has_history: bool) -> Iterator[Offer]:
        mark = _mark(state, kind)
        at = parse_instant(mark.get("at"))
        since = at - self._overlap if at else self._options.since
        seen = set(mark.get("seen", ()))
        newest = at
        for number, page in enumerate(walk(self._asker, kind, self._options.query(kind), since)):
            if has_history and not number and "deleted_at" not in mark:
                # before anything was read: what is deleted while the first walk goes on is found by the history
                self._ended.setdefault(kind, {})["deleted_at"] = instant(page.date - self._overlap)
            fresh = self._fresh(page, seen)
            newest = _later(newest, page.newest)
            here = {"at": instant(newest)} if page.in_order and newest else {}
            if fresh:
                yield self._offer(kind, "searchset", fresh, here, page.date)
        if newest:
            self._ended.setdefault(kind, {})["at"] = instant(newest)

    def _deletions(self, kind: str, state: SourceState) -> Iterator[Offer]:
        mark = _mark(state, kind)
        at = parse_instant(mark.get("deleted_at"))
        if at is None:
            return
        seen, newest = set(mark.get("seen", ())), at
        for page in history(self._asker, kind, at - self._overlap, self._options.count):
            fresh = [item for item in self._fresh(page, seen) if item.deletes]
            newest = max([newest, *(item.updated for item in page.items if item.updated)])
            if fresh:
                # the newest comes first: the watermark moves when the walk has come to its end
                yield self._offer(kind, "history", fresh, {}, page.date)
        if newest > at:
            self._ended.setdefault(kind, {})["deleted_at"] = instant(newest)

    def _noticed(self, state: SourceState) -> Iterator[Offer]:
        """Read again what the server said has changed; one that names nothing is answered by the search behind it."""
        told: dict[tuple[str, str], list[int]] = {}
        unnamed: list[int] = []
        for notice in state.notices():
            if notice.type in self._options.types and notice.id:
                told.setdefault((notice.type, notice.id), []).append(notice.number)
            else:
                unnamed.append(notice.number)
        for (kind, ident), numbers in told.items():
            item = self._again(kind, ident)
            if item is None or item.mark in _mark(state, kind).get("seen", ()):
                state.noticed(numbers)
            else:
                yield self._offer(kind, "searchset", [item], {}, None, notices=numbers)
        # forgotten before the search: one that comes during it starts another poll
        state.noticed(unnamed)

    def _again(self, kind: str, ident: str) -> Item | None:
        response = self._asker.get(f"{self._asker.base}/{kind}/{ident}", f"reading {kind} again", (200, 404, 410))
        url = f"{self._asker.base}/{kind}/{ident}"
        if response.status_code == 404:
            return None
        if response.status_code == 410:
            when = response.headers.get("last-modified") or response.headers.get("date", "")
            gone = instant(server_date({"date": when}))
            entry = {
                "fullUrl": url,
                "request": {"method": "DELETE", "url": f"{kind}/{ident}"},
                "response": {"status": "410", "lastModified": gone},
            }
            mark = mark_of("-", f"{kind}/{ident}", response.headers.get("etag", gone))
            return Item(json.dumps(entry), mark, None, deletes=True)
        raw = b'{"fullUrl":' + json.dumps(url) + b',"resource":' + response.content + b',"search":{"mode":"match"}}'
        return read_item(raw)

    def _fresh(self, page: Page, seen: set[str]) -> list[Item]:
        fresh = [item for item in page.items if item.mark not in seen and item.mode != "outcome"]
        seen.update(item.mark for item in fresh)
        return fresh

    def _offer(
        self,
        kind: str,
        form: str,
        items: Sequence[Item],
        mark: Mapping[str, str],
        date: datetime | None,
        *,
        notices: Sequence[int] = (),
    ) -> Offer:
        data = b'{"resourceType":"Bundle","type":"%s","entry":[%s]}\n' % (
            form.encode(),
            b",\n".join(item.raw for item in items),
        )
        digest = hashlib.sha256(data).hexdigest()[:24]
        # the content is the name: pages of two polls are never taken for a file and its correction
        name = f"{kind}/{digest}.{'deleted' if form == 'history' else 'page'}.json"
        self._page = (name, data)
        # what does not say when it was written (a deletion in HAPI's history) was written before the page was
        times = {item.mark: instant(when) for item in items if (when := item.updated or date)}
        meta = {"type": kind, "mark": dict(mark), "seen": times, "notices": list(notices)}
        return Offer(name, digest, len(data), meta)

    def _advance(self, state: SourceState, kind: str, mark: Mapping[str, str], seen: Mapping[str, str]) -> None:
        cursor = dict(state.cursor())
        types = dict(cursor.get("types", {}))
        before = types.get(kind, {})
        after = {**before, **{name: max(value, before.get(name, "")) for name, value in mark.items()}}
        known = {**before.get("seen", {}), **seen}
        floor = min(filter(None, (after.get("at"), after.get("deleted_at"))), default="")
        edge = parse_instant(floor)
        kept = {key: at for key, at in known.items() if edge is None or at >= instant(edge - self._overlap)}
        after["seen"] = dict(sorted(kept.items(), key=lambda item: item[1])[-SEEN:])
        if after != before:
            state.save({**cursor, "types": {**types, kind: after}})

    def _has_history(self, kind: str, state: SourceState) -> bool:
        if self._options.deletions is not None:
            return self._options.deletions
        offers = state.cursor().get("offers", {})
        asked = parse_instant(offers.get("at"))
        now = datetime.now(UTC)
        if asked is None or now - asked > CAPABILITIES:
            offers = {"at": instant(now), "history": self._offered()}
            state.save({**state.cursor(), "offers": offers})
        return kind in offers["history"]

    def _offered(self) -> list[str]:
        """Return the types of which the server's CapabilityStatement says that their history can be asked for."""
        try:
            said = json.loads(self._asker.get(f"{self._asker.base}/metadata", "the CapabilityStatement").content)
            resources = [each for rest in said["rest"] if rest.get("mode") == "server" for each in rest["resource"]]
            has = {each["type"]: {one["code"] for one in each.get("interaction", ())} for each in resources}
        except (Permanent, ValueError, LookupError, TypeError, AttributeError):
            get_logger().warning("no CapabilityStatement: deletions are not looked for")
            return []
        return [kind for kind in self._options.types if "history-type" in has.get(kind, ())]


def _mark(state: SourceState, kind: str) -> dict[str, Any]:
    return dict(state.cursor().get("types", {}).get(kind, {}))


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(filter(None, (one, other)), default=None)
