"""Land: take what a source offers, keep its bytes, commit, and only then tell the source.

What is packed or sealed (gzip, zip, tar, OpenPGP) is opened on the way: every file in it becomes a delivery of its own,
named `<what the partner sent>!<file>`, and all of them are committed together or not at all.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tasks.errors import BadRecord
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.landing.store import Landed, Landing
from tasks.ledger import claims, deliveries, receipts, refusals
from tasks.ledger.db import Connection
from tasks.ledger.source_state import LedgerState
from tasks.log import get_logger
from tasks.model import Finding, Offer
from tasks.source.contents import Decrypt, Limits, unwrap
from tasks.source.port import Source

LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Lander:
    """Lands one feed's deliveries under one claim; `decrypt` opens what the feed says is sealed."""

    connection: Connection
    feed: Feed
    source: Source
    landing: Landing
    token: int
    run_id: str | None = None
    decrypt: Decrypt | None = None
    limits: Limits = LIMITS

    def land(self) -> Counter[str]:
        """Land everything that the source offers now; return how many were landed, duplicates, corrections, refused.

        Raises `Transient` where source, disk or Postgres want another try, `LeaseLost` where another worker took over.
        """
        counts: Counter[str] = Counter()
        state = LedgerState(self.connection, self.feed.name)
        for delivery_id, offer in deliveries.unfinished(self.connection, self.feed.name):
            # committed before a crash, but the source never heard of it
            self._finish(delivery_id, offer)
        for offer in self.source.poll(state):
            reached("listed")
            counts.update(self._take(offer))
        self.source.done(state)
        return counts

    def _take(self, offer: Offer) -> list[str]:
        """Land one offer and finish it at the source; return a verdict for each delivery that it was."""
        delivery_id = deliveries.open_delivery(self.connection, self.feed, offer, self.run_id)
        try:
            _refuse_what_the_source_found(offer)
            whole = _Counted(self.source.read(offer))
            kept = list(self._keep(delivery_id, offer, whole))
        except BadRecord as error:
            verdicts = [self._refuse(delivery_id, offer, error)]
        else:
            verdicts = self._commit(delivery_id, kept, whole)
        reached("landed")
        # after the commit, because a source that archives or deletes cannot give the bytes a second time
        self._finish(delivery_id, offer)
        return verdicts

    def _keep(self, delivery_id: int, offer: Offer, whole: _Counted) -> Iterator[tuple[int, Landed]]:
        """Keep the bytes of every file that an offer holds, of a plain one itself."""
        for name, chunks in unwrap(offer.name, whole, self.limits, self.decrypt):
            member = delivery_id
            if name != offer.name:
                inner = replace(offer, name=f"{offer.name}!{name.removeprefix(offer.name + '/')}", size=None)
                member = deliveries.open_delivery(self.connection, self.feed, inner, self.run_id)
            yield member, self.landing.write(self.feed.name, self._object(member), chunks)

    def _commit(self, delivery_id: int, kept: list[tuple[int, Landed]], whole: _Counted) -> list[str]:
        verdicts = []
        with self.connection.transaction():
            claims.check(self.connection, f"feed:{self.feed.name}", self.token)
            if delivery_id not in {member for member, _ in kept}:
                deliveries.landed(self.connection, delivery_id, "", whole.size, whole.digest())
                refusals.holds_others(self.connection, delivery_id)
            for member, one in kept:
                verdicts.append(self._landed(member, one))
                if member != delivery_id:
                    deliveries.finished(self.connection, member)
                if self.feed.receipt:
                    receipts.want(self.connection, member)
        for (member, one), verdict in zip(kept, verdicts, strict=True):
            self._log(member).info("landed", verdict=verdict, bytes=one.size)
        return [str(verdict) for verdict in verdicts]

    def _landed(self, member: int, one: Landed) -> deliveries.Verdict:
        replaces, full = self.feed.on_correction == "replace", self.feed.snapshot == "full"
        return deliveries.landed(
            self.connection, member, one.object, one.size, one.sha256, replaces=replaces, full=full
        )

    def _refuse(self, delivery_id: int, offer: Offer, error: BadRecord) -> str:
        with self.connection.transaction():
            claims.check(self.connection, f"feed:{self.feed.name}", self.token)
            for member in refusals.take_back(self.connection, self.feed, f"{offer.name}!"):
                self.landing.forget(self.feed.name, self._object(member))
            refusals.refuse(
                self.connection, self.feed, self.token, delivery_id, findings=error.findings, run_id=self.run_id
            )
            if self.feed.receipt:
                receipts.want(self.connection, delivery_id)
        self._log(delivery_id).warning("refused", codes=",".join(sorted({one.code for one in error.findings})))
        return "refused"

    def _finish(self, delivery_id: int, offer: Offer) -> None:
        self.source.finish(offer, LedgerState(self.connection, self.feed.name))
        reached("source-archived")
        deliveries.finished(self.connection, delivery_id)

    def _object(self, delivery_id: int) -> str:
        """The token is in the name: a worker that was only asleep cannot write over what its successor kept."""
        return f"{delivery_id}.{self.token}"

    def _log(self, delivery_id: int) -> Any:
        return get_logger(feed=self.feed.name, delivery=delivery_id, run=self.run_id)


class _Counted:
    """A delivery's own bytes, counted and hashed as they pass."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._hash = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            self.size += len(chunk)
            yield chunk

    def digest(self) -> bytes:
        return self._hash.digest()


def _refuse_what_the_source_found(offer: Offer) -> None:
    """Raise `BadRecord` where the source says that the offer is not what its manifest promises."""
    found = [Finding(one["code"], one["location"], one["severity"]) for one in offer.meta.get("findings", ())]
    if any(one.severity == "error" for one in found):
        raise BadRecord(*found)
