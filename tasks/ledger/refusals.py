"""Deliveries that are not taken as they are: those that cannot be, and those that hold others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from tasks.feed import Feed
from tasks.ledger import batches
from tasks.ledger.batches import Members, Slice
from tasks.ledger.db import Connection
from tasks.model import BEGIN, Finding, record_id

STAGE = "land"


def refuse(
    connection: Connection, feed: Feed, token: int, delivery_id: int, *, findings: Sequence[Finding], run_id: str | None
) -> None:
    """End a delivery that cannot be taken: it counts as one record, which is quarantined with what is wrong.

    Nothing of it was landed; the partner sends it again, mended.
    """
    batch_id = batches.open_batch(connection, feed, token, run_id, "none")
    record = record_id(delivery_id, 1)
    members = Members(
        slices=[Slice(delivery_id, 1, 1, BEGIN, counts=Counter(received=1, quarantined=1))],
        records=[(record, datetime.now(UTC).date(), "delivery", None, "quarantined")],
        quarantined=[(record, delivery_id, STAGE, findings)],
    )
    members.note(record, STAGE, findings)
    batches.fix_members(connection, feed, batch_id, members, 0)
    connection.execute("update ledger.delivery set state = 'refused', landed_at = now() where id = %s", (delivery_id,))


def holds_others(connection: Connection, delivery_id: int) -> None:
    """Note that a delivery is an archive or a sealed message: its records are those of the files in it."""
    connection.execute("update ledger.delivery set state = 'read' where id = %s and state = 'landed'", (delivery_id,))


def take_back(connection: Connection, feed: Feed, prefix: str) -> list[int]:
    """Take back what was begun of a refused delivery's files, and return their ids: none of them was committed."""
    rows = connection.execute(
        "delete from ledger.delivery where feed = %s and state = 'landing' and starts_with(name, %s) returning id",
        (feed.name, prefix),
    ).fetchall()
    return [int(row[0]) for row in rows]
