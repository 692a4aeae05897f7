"""The port of the ledger: what a run notes on a record's way, from the claim to the end of every record.

Two keep it: Postgres (`tasks.ledger.postgres`, thin over this package's functions) and memory (`tasks.ledger.memory`),
which is the model that Postgres is held against: the same operations in any order must give the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from tasks.feed import Feed
from tasks.ledger.batches import Members
from tasks.ledger.deliveries import Delivery, Verdict
from tasks.ledger.moves import Move
from tasks.model import Offer


class Ledger(Protocol):
    """Where every delivery and record stands."""

    def claim(self, name: str, run_id: str, lease: float) -> int:
        """Return the fencing token of a claim on `name` for `lease` seconds; raises `Busy` while another's is alive."""

    def let_go(self, name: str, token: int) -> None:
        """Give a claim up; nothing happens where another has taken over."""

    def check(self, name: str, token: int) -> None:
        """Raise `LeaseLost` where `token` is not the newest of `name`."""

    def sighted(self, feed: str, name: str, version: str) -> int:
        """Note that a source saw `name` with `version`; return in how many looks in a row."""

    def cursor(self, feed: str) -> Mapping[str, Any]:
        """Return a source's cursor; empty at first."""

    def save(self, feed: str, cursor: Mapping[str, Any]) -> None:
        """Keep a source's cursor."""

    def open_delivery(self, feed: Feed, offer: Offer, run_id: str) -> int:
        """Note that an offer is being fetched; return the delivery's id, the same one for the same offer."""

    def landed(self, delivery_id: int, obj: str, size: int, sha256: bytes) -> Verdict:
        """Note that a delivery's bytes are kept, and say what it is; raises `LeaseLost` where they were before."""

    def finished(self, delivery_id: int) -> None:
        """Note that the source was told."""

    def unfinished(self, feed: str) -> list[tuple[int, Offer]]:
        """Return landed deliveries whose source was not told, in their order."""

    def unread(self, feed: str) -> list[Delivery]:
        """Return landed deliveries with records that nobody has read, in their order."""

    def stage(self, feed: Feed, token: int, members: Members) -> int:
        """Fix a batch's members under a claim on `feed:<name>`; return its id. Raises `LeaseLost`."""

    def known(self, feed: str, keys: Iterable[bytes]) -> dict[bytes, int]:
        """Return which record stands for each content."""

    def open_batches(self, feed: str, state: str) -> list[int]:
        """Return a feed's batches in a state, oldest first."""

    def set_state(self, batch_id: int, state: str) -> None:
        """Move a batch to another state."""

    def move(self, moves: Sequence[Move]) -> None:
        """Give records other states or another batch, together or not at all."""

    def counts(self, feed: str) -> list[dict[str, Any]]:
        """Return every delivery of a feed with the counts of the invariant."""
