"""Notices: what servers told a listener has changed, until a poll has read it again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.ledger.db import Connection

SOMETHING = ("", "")
"""A notice that does not say what has changed."""


def add(connection: Connection, feed: str, keys: Iterable[tuple[str, str]]) -> None:
    """Keep notices of (type, id). One that waits already gets a new number: a poll may be reading the old state."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ledger.notice (feed, resource_type, resource_id) values (%s, %s, %s)
            on conflict (feed, resource_type, resource_id) do update
                set number = nextval(pg_get_serial_sequence('ledger.notice', 'number')), at = now()
            """,
            [(feed, *key) for key in sorted(set(keys))],
        )


def waiting(connection: Connection, feed: str, limit: int = 10_000) -> list[tuple[int, str, str]]:
    """Return (number, type, id) of a feed's notices, the oldest first."""
    rows = connection.execute(
        "select number, resource_type, resource_id from ledger.notice where feed = %s order by number limit %s",
        (feed, limit),
    ).fetchall()
    return [(int(row[0]), str(row[1]), str(row[2])) for row in rows]


def forget(connection: Connection, feed: str, numbers: Sequence[int]) -> None:
    """Forget notices by number; one that came again meanwhile has another and stays."""
    if numbers:
        connection.execute("delete from ledger.notice where feed = %s and number = any(%s)", (feed, list(numbers)))
