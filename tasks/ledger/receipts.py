"""Receipts in the ledger: which deliveries are owed one, what it says, that it was given.

What a receipt says is fixed before it is written, so that a crash between writing and noting it writes the same again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tasks.ledger.db import Connection

ENDED = "('read', 'duplicate', 'refused')"
DUE = f"""
from ledger.delivery d join ops.delivery o on o.id = coalesce(d.duplicate_of, d.id)
where d.receipt is not null and d.receipt_at is null and d.state in {ENDED} and o.state in {ENDED} and o.in_flight = 0
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """A delivery as the ledger knows it now.

    - `row` is of `ops.delivery`; `duplicate_of` and `corrects` are (id, name, landed at).
    - `stopped` are (ordinal, location, state, stage, findings) of the records that were refused or duplicates.
    """

    row: dict[str, Any]
    duplicate_of: tuple[int, str, datetime] | None
    corrects: tuple[int, str, datetime] | None
    stopped: list[tuple[int, str, str, str | None, list[dict[str, str]] | None]]


def want(connection: Connection, delivery_id: int) -> None:
    """Note at its landing that a delivery is owed a receipt."""
    connection.execute("update ledger.delivery set receipt = '{}' where id = %s", (delivery_id,))


def due(connection: Connection, feed: str) -> list[int]:
    """Return the feed's deliveries that have ended, none of their records in flight, and have no receipt yet."""
    rows = connection.execute(f"select d.id {DUE} and d.feed = %s order by d.id".encode(), (feed,)).fetchall()
    return [int(row[0]) for row in rows]


def feeds_due(connection: Connection) -> list[str]:
    """Return the feeds for which a receipt is due."""
    return [str(row[0]) for row in connection.execute(f"select distinct d.feed {DUE} order by 1".encode()).fetchall()]


def fixed(connection: Connection, delivery_id: int) -> tuple[dict[str, Any], str | None]:
    """Return what the delivery's receipt says, empty where it is not fixed yet, and its object in landing if any."""
    row = connection.execute("select receipt, object from ledger.delivery where id = %s", (delivery_id,)).fetchone()
    assert row is not None  # noqa: S101
    return row[0], row[1]


def fix(connection: Connection, delivery_id: int, receipt: bytes) -> None:
    """Fix what a receipt says, once: what was fixed before stays."""
    connection.execute(
        "update ledger.delivery set receipt = %s where id = %s and receipt = '{}'", (receipt.decode(), delivery_id)
    )


def given(connection: Connection, delivery_id: int) -> None:
    """Note that the receipt stands where the feed says."""
    connection.execute("update ledger.delivery set receipt_at = now() where id = %s", (delivery_id,))


def facts(connection: Connection, delivery_id: int) -> Facts:
    """Return what the ledger knows of a delivery; of a duplicate, the records are the first one's."""
    cursor = connection.execute(
        """
        select o.id, o.feed, o.name, o.state, o.sha256, o.size, o.landed_at, o.received, o.published, o.quarantined,
               o.discarded, o.duplicate, o.filtered, o.duplicate_of, o.corrects
        from ops.delivery o where o.id = %s
        """,
        (delivery_id,),
    )
    found = cursor.fetchone()
    assert found is not None  # noqa: S101
    row = dict(zip([column.name for column in cursor.description or ()], found, strict=True))
    first = row["duplicate_of"] or delivery_id
    return Facts(
        row,
        _earlier(connection, row["duplicate_of"]),
        _earlier(connection, row["corrects"]),
        _stopped(connection, first),
    )


def _earlier(connection: Connection, delivery_id: int | None) -> tuple[int, str, datetime] | None:
    row = connection.execute("select id, name, landed_at from ledger.delivery where id = %s", (delivery_id,)).fetchone()
    return (row[0], row[1], row[2]) if row else None


def _stopped(connection: Connection, delivery_id: int) -> list[Any]:
    return connection.execute(
        """
        select r.id & 4294967295, r.location, r.state, q.stage, q.findings
        from ledger.record r left join ledger.quarantine q on q.record_id = r.id
        where r.id >= %(id)s::bigint << 32 and r.id < (%(id)s::bigint + 1) << 32
          and r.state in ('quarantined', 'discarded', 'duplicate')
        order by r.id
        """,
        {"id": delivery_id},
    ).fetchall()
