"""Gives receipts: fixes what is said, writes it to where the feed says, and only then notes that it was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from tasks.errors import SluiceError
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.landing.store import Landing
from tasks.ledger import receipts
from tasks.ledger.db import Connection
from tasks.log import get_logger
from tasks.pipeline import Pipeline
from tasks.receipt import ack, make, render
from tasks.receipt.model import Receipt
from tasks.source.port import Receiver


@dataclass(frozen=True, slots=True)
class Giver:
    """Gives one feed's receipts under one claim."""

    connection: Connection
    feed: Feed
    receiver: Receiver
    landing: Landing
    pipeline: Pipeline

    def give(self) -> int:
        """Give every receipt that is due; return how many.

        One that cannot be written stops no other: its error is raised at the end, `Transient` where a later try may
        help.
        """
        failed: list[SluiceError] = []
        given = 0
        for delivery_id in receipts.due(self.connection, self.feed.name):
            try:
                self._one(delivery_id)
                given += 1
            except SluiceError as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return given

    def _one(self, delivery_id: int) -> None:
        receipt, obj = self._said(delivery_id)
        for name, data in self._files(receipt, obj):
            self._put(name, data)
            reached("receipt-written")
        # after the writing, because what was noted and not written would never come
        receipts.given(self.connection, delivery_id)
        get_logger(feed=self.feed.name, delivery=delivery_id).info(
            "receipt given", received=receipt.received, accepted=receipt.accepted, refused=receipt.refused
        )

    def _said(self, delivery_id: int) -> tuple[Receipt, str | None]:
        """Return the receipt as it was fixed first: an operator may have changed the counts since a crash."""
        said, obj = receipts.fixed(self.connection, delivery_id)
        if not said:
            new = make.of_ledger(receipts.facts(self.connection, delivery_id), datetime.now(UTC))
            receipts.fix(self.connection, delivery_id, msgspec.json.encode(new))
            said, obj = receipts.fixed(self.connection, delivery_id)
        return msgspec.convert(said, Receipt), obj

    def _files(self, receipt: Receipt, obj: str | None) -> Iterator[tuple[str, Iterable[bytes]]]:
        base = render.base_name(receipt)
        yield f"{base}.receipt.txt", [render.as_text(receipt)]
        yield f"{base}.receipt.json", [render.as_json(receipt)]
        if obj and self.feed.format == "hl7v2":
            # of what was refused as a whole nothing was landed, and no message of it is known
            yield f"{base}.ack.hl7", ack.batch(receipt, make.frames(self.pipeline.format, self.landing.read(obj)))

    def _put(self, name: str, data: Iterable[bytes]) -> None:
        assert self.feed.receipt is not None  # noqa: S101
        self.receiver.put(f"{self.feed.receipt.path.rstrip('/')}/{name}", data)
