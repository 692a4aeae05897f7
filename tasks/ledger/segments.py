"""Segments and arrivals: what listeners landed, committed in groups before anything is acknowledged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tasks.feed import Feed
from tasks.ledger.db import Connection

_LOCK = "hashtextextended('segment:' || %s, 0)"


@dataclass(frozen=True, slots=True)
class Known:
    """A message that was acknowledged before: where it stands and when it was acknowledged."""

    control: bytes
    digest: bytes
    delivery_id: int
    start: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message of the group that is being committed; `finding` is a code that its record will bear."""

    delivery_id: int
    start: int
    control: bytes
    digest: bytes
    finding: str | None


def open_segment(connection: Connection, feed: Feed, name: str, obj: str) -> int:
    """Note a segment, and hold it for as long as this connection's session lives; return the delivery's id."""
    with connection.transaction():
        row = connection.execute(
            """
            insert into ledger.delivery
                (feed, partner, format, name, version, offer, state, object, landed_at, finished_at)
            values (%s, %s, %s, %s, %s, %s, 'landed', %s, now(), now()) returning id
            """,
            (feed.name, feed.partner, feed.format, name, name, json.dumps({"name": name, "version": name}), obj),
        ).fetchone()
        assert row is not None  # noqa: S101
        connection.execute("insert into ledger.segment (delivery_id) values (%s)", row)
        connection.execute(f"select pg_advisory_lock({_LOCK})".encode(), row)
    return int(row[0])


def known(connection: Connection, controls: Iterable[bytes]) -> list[Known]:
    """Return what is still known of messages with these control ids, the oldest first."""
    rows = connection.execute(
        """
        select control, digest, delivery_id, start, at from ledger.arrival
        where control = any(%s) order by delivery_id, start
        """,
        (list(controls),),
    ).fetchall()
    return [Known(bytes(row[0]), bytes(row[1]), row[2], row[3], row[4]) for row in rows]


def commit(connection: Connection, sizes: dict[int, int], arrived: Sequence[Arrived], at: datetime) -> set[int]:
    """Commit a group; return the segments that took it: another process may have closed one meanwhile.

    `sizes` are the segments' new sizes by delivery.
    """
    rows = connection.execute(
        """
        with said as (
            select * from unnest(%(ids)s::bigint[], %(starts)s::bigint[], %(controls)s::bytea[], %(digests)s::bytea[],
                                 %(findings)s::text[]) s(delivery_id, start, control, digest, finding)
        ), grown as (
            update ledger.segment g
            set size = n.size,
                messages = g.messages + (select count(*) from said where said.delivery_id = g.delivery_id)
            from unnest(%(segments)s::bigint[], %(sizes)s::bigint[]) n(delivery_id, size)
            where g.delivery_id = n.delivery_id and g.closed_at is null returning g.delivery_id
        ), landed as (
            insert into ledger.arrival (delivery_id, start, control, digest, finding, at)
            select s.delivery_id, s.start, s.control, s.digest, s.finding, %(at)s
            from said s join grown on grown.delivery_id = s.delivery_id
        )
        select delivery_id from grown
        """,
        {
            "ids": [one.delivery_id for one in arrived],
            "starts": [one.start for one in arrived],
            "controls": [one.control for one in arrived],
            "digests": [one.digest for one in arrived],
            "findings": [one.finding for one in arrived],
            "segments": list(sizes),
            "sizes": list(sizes.values()),
            "at": at,
        },
        prepare=True,
    ).fetchall()
    return {int(row[0]) for row in rows}


def close(connection: Connection, delivery_id: int) -> None:
    """Say that nothing more comes into a segment; saying it twice changes nothing."""
    with connection.transaction():
        row = connection.execute(
            "update ledger.segment set closed_at = now() where delivery_id = %s and closed_at is null returning size",
            (delivery_id,),
        ).fetchone()
        if row:
            connection.execute("update ledger.delivery set size = %s where id = %s", (row[0], delivery_id))
    connection.execute(f"select pg_advisory_unlock({_LOCK})".encode(), (delivery_id,))


def close_left(connection: Connection, feed: str) -> list[int]:
    """Close the feed's segments whose listener is dead; return them."""
    rows = connection.execute(
        """
        select s.delivery_id from ledger.segment s join ledger.delivery d on d.id = s.delivery_id
        where d.feed = %s and s.closed_at is null
        """,
        (feed,),
    ).fetchall()
    left = []
    for (delivery_id,) in rows:
        free = connection.execute(f"select pg_try_advisory_lock({_LOCK})".encode(), (delivery_id,)).fetchone()
        if free and free[0]:
            close(connection, delivery_id)
            left.append(int(delivery_id))
    return left


def forget(connection: Connection, feed: str, seconds: float) -> int:
    """Forget the feed's arrivals that are older and have no finding to tell; return how many."""
    return connection.execute(
        """
        delete from ledger.arrival a using ledger.delivery d
        where d.id = a.delivery_id and d.feed = %s and a.at < now() - make_interval(secs => %s)
          and (a.finding is null or d.state = 'read')
        """,
        (feed, seconds),
    ).rowcount


def findings(connection: Connection, delivery_id: int, start: int, stop: int) -> list[tuple[int, str]]:
    """Return (start, code) of the messages from `start` to before `stop` about which the listener found something."""
    rows = connection.execute(
        """
        select start, finding from ledger.arrival
        where delivery_id = %s and start >= %s and start < %s and finding is not null order by start
        """,
        (delivery_id, start, stop),
    ).fetchall()
    return [(int(row[0]), str(row[1])) for row in rows]
