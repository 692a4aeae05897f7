"""The ledger in memory: what the operations of `tasks.ledger.port` mean, without SQL; nothing outlives the process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tasks.errors import LeaseLost
from tasks.feed import Feed
from tasks.ledger.batches import Members
from tasks.ledger.claims import Busy
from tasks.ledger.counts import OUTCOMES
from tasks.ledger.deliveries import Delivery, Verdict
from tasks.ledger.moves import Move
from tasks.model import BEGIN, Offer, Position, split_record_id

ENDED = ("quarantined", "duplicate", "filtered", "discarded")


@dataclass(slots=True)
class _Delivery:
    id: int
    feed: str
    offer: Offer
    state: str = "landing"
    object: str = ""
    sha256: bytes = b""
    landed_at: datetime | None = None
    finished: bool = False
    duplicate_of: int | None = None
    corrects: int | None = None
    position: Position = BEGIN


@dataclass(slots=True)
class _Record:
    batch: int
    key: bytes | None
    state: str | None


@dataclass(slots=True)
class MemoryLedger:
    """One site's ledger; `clock` gives seconds, by which leases run out."""

    clock: Callable[[], float] = time.monotonic
    _claims: dict[str, tuple[int, float]] = field(default_factory=dict)
    _tokens: int = 0
    _seen: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    _cursors: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _deliveries: dict[int, _Delivery] = field(default_factory=dict)
    _batches: dict[int, tuple[str, str]] = field(default_factory=dict)
    _records: dict[int, _Record] = field(default_factory=dict)
    _keys: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def claim(self, name: str, run_id: str, lease: float) -> int:
        """Return the fencing token of a claim (`Ledger.claim`)."""
        _, until = self._claims.get(name, (0, 0.0))
        if until > self.clock():
            raise Busy(f"{name}: another run is working on it; it goes on from the ledger by itself")
        self._tokens += 1
        self._claims[name] = (self._tokens, self.clock() + lease)
        return self._tokens

    def let_go(self, name: str, token: int) -> None:
        """Give a claim up (`Ledger.let_go`)."""
        if self._claims.get(name, (0, 0.0))[0] == token:
            self._claims[name] = (token, 0.0)

    def check(self, name: str, token: int) -> None:
        """Raise `LeaseLost` for an old token (`Ledger.check`)."""
        if self._claims.get(name, (0, 0.0))[0] != token:
            raise LeaseLost(f"{name}: another worker has taken over; this one stops and has changed nothing")

    def sighted(self, feed: str, name: str, version: str) -> int:
        """Count looks in a row (`Ledger.sighted`)."""
        before, polls = self._seen.get((feed, name), ("", 0))
        self._seen[feed, name] = (version, polls + 1 if before == version else 1)
        return self._seen[feed, name][1]

    def cursor(self, feed: str) -> Mapping[str, Any]:
        """Return a source's cursor (`Ledger.cursor`)."""
        return self._cursors.get(feed, {})

    def save(self, feed: str, cursor: Mapping[str, Any]) -> None:
        """Keep a source's cursor (`Ledger.save`)."""
        self._cursors[feed] = dict(cursor)

    def open_delivery(self, feed: Feed, offer: Offer, run_id: str) -> int:
        """Note that an offer is being fetched (`Ledger.open_delivery`)."""
        for one in self._of(feed.name):
            if (one.offer.name, one.offer.version) == (offer.name, offer.version):
                one.offer = offer
                return one.id
        number = len(self._deliveries) + 1
        self._deliveries[number] = _Delivery(number, feed.name, offer)
        return number

    def landed(self, delivery_id: int, obj: str, size: int, sha256: bytes) -> Verdict:
        """Note that bytes are kept (`Ledger.landed`)."""
        me = self._deliveries[delivery_id]
        if me.state != "landing":
            raise LeaseLost(f"delivery {delivery_id}: another worker has landed it; this one changes nothing")
        others = [one for one in self._of(me.feed) if one.id != me.id and one.state != "landing"]
        again = [one for one in others if (one.offer.name, one.sha256) == (me.offer.name, sha256)]
        words: dict[str, _Delivery] = {}
        for one in others:
            said = {
                earlier.sha256 for earlier in others if earlier.offer.name == one.offer.name and earlier.id < one.id
            }
            if one.state != "duplicate" or one.sha256 not in said:
                words[one.offer.name] = one
        before = words.get(me.offer.name)
        stands = [one for one in words.values() if one.sha256 == sha256] if not before else []
        twin = next(iter([*again[-1:], *stands]), None)
        me.object, me.sha256, me.landed_at, me.state = obj, sha256, datetime.now(UTC), "landed"
        if twin is not None:
            me.duplicate_of, me.state = twin.duplicate_of or twin.id, "duplicate"
            return "duplicate"
        me.corrects = before.id if before else None
        return "landed" if me.corrects is None else "correction"

    def finished(self, delivery_id: int) -> None:
        """Note that the source was told (`Ledger.finished`)."""
        self._deliveries[delivery_id].finished = True

    def unfinished(self, feed: str) -> list[tuple[int, Offer]]:
        """Return what the source was not told of (`Ledger.unfinished`)."""
        return [(one.id, one.offer) for one in self._of(feed) if not one.finished and one.state != "landing"]

    def unread(self, feed: str) -> list[Delivery]:
        """Return what nobody has read to its end (`Ledger.unread`)."""
        return [
            Delivery(one.id, one.object, one.landed_at, one.position, one.corrects)
            for one in self._of(feed)
            if one.state == "landed" and one.landed_at
        ]

    def stage(self, feed: Feed, token: int, members: Members) -> int:
        """Fix a batch's members (`Ledger.stage`)."""
        self.check(f"feed:{feed.name}", token)
        number = len(self._batches) + 1
        going = False
        for record, _landed, _location, key, ended in members.records:
            self._records[record] = _Record(number, key, ended)
            if ended is None:
                going = True
                if key is not None:
                    self._keys[feed.name, key] = record
        self._batches[number] = (feed.name, "staged" if going else "published")
        for part in members.slices:
            one = self._deliveries[part.delivery_id]
            one.position, one.state = (one.position, "read") if part.stop is None else (part.stop, one.state)
        return number

    def known(self, feed: str, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return which record stands for each content (`Ledger.known`)."""
        return {key: self._keys[feed, key] for key in keys if (feed, key) in self._keys}

    def open_batches(self, feed: str, state: str) -> list[int]:
        """Return batches in a state (`Ledger.open_batches`)."""
        return [number for number, said in self._batches.items() if said == (feed, state)]

    def set_state(self, batch_id: int, state: str) -> None:
        """Move a batch to another state (`Ledger.set_state`)."""
        self._batches[batch_id] = (self._batches[batch_id][0], state)

    def move(self, moves: Sequence[Move]) -> None:
        """Give records other states or another batch (`Ledger.move`)."""
        for one in moves:
            record = self._records[one.record]
            record.state = one.state
            if one.batch is not None:
                record.batch = one.batch
                if record.key is not None:
                    self._keys.setdefault((self._batches[one.batch][0], record.key), one.record)

    def counts(self, feed: str) -> list[dict[str, Any]]:
        """Return deliveries with the counts of the invariant (`Ledger.counts`), each record counted where it is."""
        return [self._counts(one) for one in self._of(feed)]

    def _counts(self, one: _Delivery) -> dict[str, Any]:
        said: Counter[str] = Counter()
        for number, record in self._records.items():
            if split_record_id(number)[0] == (one.duplicate_of or one.id):
                said["received"] += 1
                said["duplicate" if one.duplicate_of else self._outcome(record)] += 1
        facts = {"id": one.id, "feed": one.feed, "name": one.offer.name, "state": one.state}
        facts |= {"duplicate_of": one.duplicate_of, "corrects": one.corrects}
        return facts | {name: said[name] for name in OUTCOMES}

    def _outcome(self, record: _Record) -> str:
        if record.state in ENDED:
            return record.state or ""
        return "published" if self._batches[record.batch][1] == "published" else "in_flight"

    def _of(self, feed: str) -> list[_Delivery]:
        return [one for one in self._deliveries.values() if one.feed == feed]
