"""The ledger in Postgres behind its port: this package's functions on one connection, nothing more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from tasks.feed import Feed
from tasks.ledger import batches, claims, counts, deliveries, moves
from tasks.ledger.batches import Members
from tasks.ledger.db import Connection
from tasks.ledger.deliveries import Delivery, Verdict
from tasks.ledger.moves import Move
from tasks.ledger.source_state import LedgerState
from tasks.model import Offer


class PostgresLedger:
    """`tasks.ledger.port.Ledger` over a connection; its claims are held until they are let go."""

    def __init__(self, connection: Connection, url: str) -> None:
        self.connection, self.url = connection, url
        self._held: dict[tuple[str, int], ExitStack] = {}

    def claim(self, name: str, run_id: str, lease: float) -> int:
        """Return the fencing token of a claim (`Ledger.claim`)."""
        stack = ExitStack()
        token = stack.enter_context(claims.claim(self.url, name, run_id, lease))
        self._held[name, token] = stack
        return token

    def let_go(self, name: str, token: int) -> None:
        """Give a claim up (`Ledger.let_go`)."""
        self._held.pop((name, token), ExitStack()).close()

    def check(self, name: str, token: int) -> None:
        """Raise `LeaseLost` for an old token (`Ledger.check`)."""
        claims.check(self.connection, name, token)

    def sighted(self, feed: str, name: str, version: str) -> int:
        """Count looks in a row (`Ledger.sighted`)."""
        return LedgerState(self.connection, feed).sighted(name, version)

    def cursor(self, feed: str) -> Mapping[str, Any]:
        """Return a source's cursor (`Ledger.cursor`)."""
        return LedgerState(self.connection, feed).cursor()

    def save(self, feed: str, cursor: Mapping[str, Any]) -> None:
        """Keep a source's cursor (`Ledger.save`)."""
        LedgerState(self.connection, feed).save(cursor)

    def open_delivery(self, feed: Feed, offer: Offer, run_id: str) -> int:
        """Note that an offer is being fetched (`Ledger.open_delivery`)."""
        return deliveries.open_delivery(self.connection, feed, offer, run_id)

    def landed(self, delivery_id: int, obj: str, size: int, sha256: bytes) -> Verdict:
        """Note that bytes are kept (`Ledger.landed`)."""
        return deliveries.landed(self.connection, delivery_id, obj, size, sha256)

    def finished(self, delivery_id: int) -> None:
        """Note that the source was told (`Ledger.finished`)."""
        deliveries.finished(self.connection, delivery_id)

    def unfinished(self, feed: str) -> list[tuple[int, Offer]]:
        """Return what the source was not told of (`Ledger.unfinished`)."""
        return deliveries.unfinished(self.connection, feed)

    def unread(self, feed: str) -> list[Delivery]:
        """Return what nobody has read to its end (`Ledger.unread`)."""
        return deliveries.unread(self.connection, feed)

    def stage(self, feed: Feed, token: int, members: Members) -> int:
        """Fix a batch's members (`Ledger.stage`)."""
        with self.connection.transaction():
            claims.check(self.connection, f"feed:{feed.name}", token)
            batch_id = batches.open_batch(self.connection, feed, token, None, "none")
            batches.fix_members(self.connection, feed, batch_id, members, 0)
        return batch_id

    def known(self, feed: str, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return which record stands for each content (`Ledger.known`)."""
        return batches.known(self.connection, keys)

    def open_batches(self, feed: str, state: str) -> list[int]:
        """Return batches in a state (`Ledger.open_batches`)."""
        return batches.open_batches(self.connection, feed, state)

    def set_state(self, batch_id: int, state: str) -> None:
        """Move a batch to another state (`Ledger.set_state`)."""
        batches.set_state(self.connection, batch_id, state)

    def move(self, moving: Sequence[Move]) -> None:
        """Give records other states or another batch (`Ledger.move`)."""
        with self.connection.transaction():
            moves.move(self.connection, moving)

    def counts(self, feed: str) -> list[dict[str, Any]]:
        """Return deliveries with the counts of the invariant (`Ledger.counts`)."""
        return counts.of_feed(self.connection, feed)
