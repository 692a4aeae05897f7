"""A FHIR server as a destination: versions PUT by deterministic id, in order, in parallel, each status read.

Source: FHIR R4, "RESTful API" (http.html): transaction and batch, conditional update, ETag and If-Match.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mappings.engine import json
from tasks.deliver.fhir_body import without_lone_alternates, without_marks
from tasks.deliver.fhir_conditional import Conditional, conditional_types
from tasks.deliver.fhir_ids import ClientIds, ServerIds, rewritten
from tasks.deliver.fhir_limits import Breaker, BundleSize
from tasks.deliver.fhir_order import Entry, lane, lanes, local, references, waves
from tasks.deliver.fhir_wire import Wire
from tasks.deliver.fhir_writer import Writer
from tasks.deliver.port import DestinationOptions, Item, Outcome, Store, misnamed
from tasks.errors import ConfigError, Transient
from tasks.http import Retry, client
from tasks.http_auth import connection_auth, read_auth
from tasks.http_pace import Pace
from tasks.model import Finding

_REMEMBERED = 100_000


class FhirOptions(DestinationOptions):
    """A destination's file with `kind: fhir`.

    - `base_url` may stand in the connection instead; `auth` is an auth file, else the connection's values are used.
    - `bundle` is how entries travel; `max_entries` and `max_bytes` are where their size begins, before halving.
    - `parallel` is how many requests are under way at once, at most.
    - `ids: server` is for servers that assign their own ids: ours is then an identifier in `id_system`.
    - `match` names, by type, the system of the identifier by which the server knows such things already: they are
      updated conditionally by it.
    - `alternate_codes: false` leaves out codes that hold the extension `alternate-codes` alone.
    - `timeout` is in seconds; `attempts` and `backoff` (seconds) are for requests that may be repeated at once.
    """

    send: Literal["resources"] = "resources"
    base_url: str | None = None
    auth: Path | None = None
    bundle: Literal["transaction", "batch", "none"] = "transaction"
    max_entries: int = Field(default=100, ge=1, le=10_000)
    max_bytes: int = Field(default=10_000_000, ge=10_000)
    parallel: int = Field(default=8, ge=1, le=100)
    headers: dict[str, str] = Field(default_factory=dict)
    ids: Literal["client", "server"] = "client"
    id_system: str = "urn:sluice:id"
    match: dict[str, str] = Field(default_factory=dict)
    alternate_codes: bool = True
    timeout: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=3, ge=1, le=20)
    backoff: float = Field(default=0.5, gt=0)


class FhirDestination:
    """Sends versions to one FHIR server."""

    Options: ClassVar[type[DestinationOptions]] = FhirOptions

    def __init__(self, options: FhirOptions, connection: Mapping[str, str]) -> None:
        base = options.base_url or connection.get("base_url")
        if not base:
            raise ConfigError("kind: fhir needs base_url, in the destination's file or in its connection")
        auth = read_auth(options.auth) if options.auth else connection_auth(connection)
        self._base = base.rstrip("/")
        self._http = client(
            self._base,
            auth,
            headers=options.headers,
            timeout=options.timeout,
            connections=options.parallel,
            whole=options.timeout,
        )
        wire = Wire(self._http, self._base, options.bundle, ClientIds())
        if options.ids == "server" or options.match:
            wire.ids = ServerIds(options.id_system, self._base, wire.search, options.match)
        self._conditional = Conditional(wire.search)
        self._alternates = options.alternate_codes
        self._wire = wire
        self._parallel = options.parallel
        self._store: Store | None = None
        self._refused: dict[str, Outcome] = {}
        self._breaker = Breaker()
        self._size = BundleSize(options.max_entries, options.max_bytes)
        self._writer = Writer(
            wire,
            mode=options.bundle,
            size=self._size,
            pace=Pace(options.parallel),
            breaker=self._breaker,
            retry=Retry(options.attempts, options.backoff, 30.0),
        )
        self._pool = ThreadPoolExecutor(options.parallel, "sluice-fhir")

    def send(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Deliver `items` and yield one outcome for each, as they come in.

        Raises `Transient` while the server is left alone because it failed again and again, `ConfigError` where it
        does not know the client or shows a certificate that is not trusted.
        """
        if pause := self._breaker.left():
            raise Transient("the destination failed repeatedly and is left alone for a while", pause)
        entries: dict[str, Entry] = {}
        for entry in self._entries(items):
            if isinstance(entry, Outcome):
                yield entry
            else:
                entries[entry.key] = entry
        self._recall(entries.values())
        later: dict[str, Outcome] = {}
        failed = ChainMap(later, self._refused)
        for wave in waves(entries.values()):
            ready, held = self._divided(wave, failed)
            for outcome in chain(held, self._wave(ready)):
                self._remember(outcome, later)
                yield outcome

    def use(self, store: Store) -> None:
        """Take the store: what is deleted or referred to may be known to the server by what was said of it."""
        self._store = store

    def _recall(self, entries: Iterable[Entry]) -> None:
        ids = self._wire.ids
        if self._store and isinstance(ids, ServerIds) and (unknown := ids.unknown(entries)):
            ids.recall(self._store.last(unknown))

    def remember(self, ids: Mapping[str, str]) -> None:
        """Take the server's own ids of things that it was sent before."""
        if isinstance(self._wire.ids, ServerIds):
            self._wire.ids.remember(ids)

    def _remember(self, outcome: Outcome, later: dict[str, Outcome]) -> None:
        """Keep what did not get in, because what refers to it may come with a later call."""
        key = outcome.item.key
        if outcome.status == "retry":
            later[key] = outcome
        elif outcome.status == "refused" and outcome.item.resource is not None:
            self._refused[key] = outcome
            if len(self._refused) > _REMEMBERED:
                del self._refused[next(iter(self._refused))]
        else:
            self._refused.pop(key, None)

    def close(self) -> None:
        """Give up connections; what is under way is finished first."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._http.close()

    def _wave(self, groups: list[list[Entry]]) -> Iterator[Outcome]:
        if not groups:
            return
        # Full bundles before many writers: a bundle's cost at the server is mostly its own, not its entries'.
        most = min(self._parallel, -(-sum(map(len, groups)) // self._size.entries))
        found = [self._pool.submit(lambda work: list(self._writer.lane(work)), part) for part in lanes(groups, most)]
        for future in as_completed(found):
            yield from future.result()

    def _entries(self, items: Sequence[Item]) -> Iterator[Entry | Outcome]:
        found = [self._entry(item) for item in items]
        by_search = [one.item for one in found if isinstance(one, Entry) and conditional_types(one.body)]
        resolved = self._conditional.resolved(by_search, items) if by_search else {}
        for one in found:
            yield self._entry(resolved[one.item.key]) if one.item.key in resolved else one

    def _entry(self, item: Item) -> Entry | Outcome:
        key = item.key
        if refusal := misnamed(item):
            return refusal
        if item.names:
            self._wire.ids.at_home(item.names.values())
        if item.resource is None:
            return Entry(item, key, b"", (), key)
        resource = without_marks(item.resource)
        if not self._alternates:
            resource = without_lone_alternates(resource)
        if item.names:
            resource = {**rewritten(resource, item.names, self._base), "id": key.partition("/")[2]}
        body = json.dumps(resource)
        return Entry(item, key, body, references(body, self._base), lane(resource, key, self._base))

    def _divided(
        self, wave: list[list[Entry]], failed: Mapping[str, Outcome]
    ) -> tuple[list[list[Entry]], list[Outcome]]:
        """Divide a wave into groups that may be sent and outcomes of those that refer to what did not get in."""
        ready: list[list[Entry]] = []
        held: list[Outcome] = []
        stands: dict[str, bool] = {}
        for group in wave:
            outcomes = [self._held(entry, failed, stands) for entry in group]
            cause = next((outcome for outcome in outcomes if outcome), None)
            if cause is None:
                ready.append(group)
            else:
                held += [out or replace(cause, item=entry.item) for entry, out in zip(group, outcomes, strict=True)]
        return ready, held

    def _held(self, entry: Entry, failed: Mapping[str, Outcome], stands: dict[str, bool]) -> Outcome | None:
        for key in entry.references if failed else ():
            cause = failed.get(key)
            if cause is None:
                continue
            if cause.status == "retry":
                return Outcome(entry.item, "retry", "dependency", retry_after=cause.retry_after)
            if key not in stands:
                stands[key] = self._stands(key)
            if not stands[key]:
                place = _place_of(entry, key, self._base)
                return Outcome(entry.item, "refused", "dependency", Finding("dependency-refused", place, "error"))
        return None

    def _stands(self, key: str) -> bool:
        """Say whether the server holds an earlier version of what was refused: then a reference to it is good."""
        resource_type, _, ours = key.partition("/")
        return self._wire.look(Entry(Item(resource_type, ours, 0, None), key, b"", (), key)).status == 200


def _place_of(entry: Entry, key: str, base: str) -> str:
    """Return the element of an entry that refers to `key`."""

    def find(value: object, path: str) -> str | None:
        if isinstance(value, list):
            return next((found for item in value if (found := find(item, path))), None)
        if not isinstance(value, dict):
            return None
        reference = value.get("reference")
        if isinstance(reference, str) and local(reference, base) == key:
            return path
        return next((found for name, item in value.items() if (found := find(item, f"{path}.{name}"))), None)

    return find(entry.item.resource, entry.item.resource_type) or entry.item.resource_type
