"""What came and what was told about what did not, from the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tasks.expected import DAYS, Arrival, Missed, missed
from tasks.feed import Feed
from tasks.ledger.db import Connection

BEGAN = "expectation-began"
"""The event from which on a feed's deliveries are expected: what was due before nobody had asked for."""


def not_as_expected(connection: Connection, feed: Feed, now: datetime) -> list[Missed]:
    """Return what is not as the feed expects it now (`tasks.expected.missed`)."""
    if feed.expect is None:
        return []
    since = began(connection, feed.name) or now - timedelta(days=1)
    return missed(feed, _arrivals(connection, feed.name, now - timedelta(days=DAYS + 1)), now, since)


def began(connection: Connection, feed: str) -> datetime | None:
    """Return since when the feed's deliveries are expected."""
    row = connection.execute("select min(at) from ledger.event where feed = %s and kind = %s", (feed, BEGAN)).fetchone()
    return row[0] if row else None


def begin(connection: Connection, feed: str, now: datetime) -> None:
    """Note once that the feed's deliveries are expected from now on."""
    if began(connection, feed) is None:
        connection.execute("insert into ledger.event (at, feed, kind) values (%s, %s, %s)", (now, feed, BEGAN))


def note(connection: Connection, one: Missed) -> bool:
    """Note what is not as expected, once a feed, day and kind; say whether it is news."""
    facts = {name: value for name, value in as_row(one).items() if name not in {"feed", "kind"}}
    row = connection.execute(
        """
        insert into ledger.event (feed, kind, facts) values (%s, %s, %s)
        on conflict (feed, kind, (facts ->> 'day')) where kind in ('late', 'missing', 'too-small', 'too-large')
        do nothing returning id
        """,
        (one.feed, one.kind, json.dumps(facts)),
    ).fetchone()
    return row is not None


def as_row(one: Missed) -> dict[str, Any]:
    """Return what is not as expected as it is printed and stored: times in ISO 8601, UTC."""
    low, high = one.expected or (None, None)
    return {
        "feed": one.feed,
        "day": one.day.isoformat(),
        "kind": one.kind,
        "due": one.due.isoformat(),
        "came": one.came and one.came.isoformat(),
        "records": one.records,
        "least": low,
        "most": high,
    }


def _arrivals(connection: Connection, feed: str, since: datetime) -> Iterable[Arrival]:
    """What came and was taken: neither duplicates nor what was refused as a whole."""
    rows = connection.execute(
        """
        select d.id, d.landed_at, case when d.state = 'read' then o.received end, d.corrects
        from ledger.delivery d join ops.delivery o on o.id = d.id
        where d.feed = %s and d.landed_at >= %s and d.state in ('landed', 'read')
        """,
        (feed, since),
    ).fetchall()
    return [Arrival(*row) for row in rows]
