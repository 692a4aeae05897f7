"""Erased patients: what speaks of them stays out, and what of them was landed is passed over unread.

Who was erased is known by the sha256 of an id alone. A worker that stages or publishes holds the shared lock of its
transaction, an erasure the exclusive one: so no statement slips past between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tasks.ledger.db import Connection
from tasks.ledger.deliveries import position, position_json
from tasks.ledger.spoken import digest, patients
from tasks.model import Conversion, Position, moment

ERASED = "erased"
"""The reason for which a record of an erased patient is filtered."""

LOCK = "hashtextextended('sluice:erase', 0)"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The erased patients, and after which time each of them may be spoken of again (None: never)."""

    until: Mapping[bytes, datetime | None] = field(default_factory=dict)

    def covers(self, conversion: Conversion) -> bool:
        """Say whether what a record says is about an erased patient."""
        if not self.until:
            return False
        found = [key for name in patients(conversion) if (key := digest(name)) in self.until]
        when = conversion.event_time and moment(conversion.event_time)
        return any((until := self.until[key]) is None or not when or when <= until for key in found)


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes of a delivery that are blank: one record from `start` on, and the position after it."""

    ordinal: int
    start: int
    next: Position


def hold(connection: Connection) -> Suppressed:
    """Return who is erased; nobody more is until the caller's transaction has ended."""
    connection.execute(f"select pg_advisory_xact_lock_shared({LOCK})".encode())
    rows = connection.execute("select digest, until from ledger.suppressed").fetchall()
    return Suppressed({bytes(key): until for key, until in rows})


def withheld(connection: Connection, records: Sequence[int]) -> None:
    """Note records that came of erased patients, so that their bytes are blanked in landing too."""
    if records:
        connection.execute(
            """
            insert into ledger.erased_record (record_id, delivery_id, erasure_id)
            select id, id >> 32, (select max(erasure_id) from ledger.suppressed) from unnest(%s::bigint[]) id
            on conflict (record_id) do nothing
            """,
            (list(records),),
        )
        connection.execute(
            "update ledger.erasure set ended_at = null where id = (select max(erasure_id) from ledger.suppressed)"
        )


def is_due(connection: Connection) -> bool:
    """Say whether an erasure has something left to be done."""
    return connection.execute("select from ledger.erasure where ended_at is null limit 1").fetchone() is not None


def holes(connection: Connection, delivery_id: int, ordinal: int = 1) -> list[Hole]:
    """Return the blank places of a delivery from a record on, in order."""
    rows = connection.execute(
        """
        select record_id & 4294967295, start, next from ledger.erased_record
        where delivery_id = %s and record_id >= %s::bigint << 32 | %s and start is not null order by record_id
        """,
        (delivery_id, delivery_id, ordinal),
    ).fetchall()
    return [Hole(int(number), int(start), position(following)) for number, start, following in rows]


def set_holes(connection: Connection, delivery_id: int, found: Iterable[Hole]) -> None:
    """Note where erased records stand in a delivery: from now on they are passed over."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "update ledger.erased_record set start = %s, next = %s where record_id = %s::bigint << 32 | %s",
            [(hole.start, position_json(hole.next), delivery_id, hole.ordinal) for hole in found],
        )


@dataclass(frozen=True, slots=True)
class ToShred:
    """A delivery whose object holds erased records; `told_by` is the one whose records it repeats, or itself.

    - `size` is how many bytes of a listener's segment count.
    - `waits`: its listener still appends to it, or its partner's receipt is still to be made of it.
    """

    delivery_id: int
    told_by: int
    object: str
    size: int | None
    asked_at: datetime
    waits: bool


def to_shred(connection: Connection) -> Iterator[ToShred]:
    """Yield the deliveries in which erased records are not blank yet, the repetitions of a delivery after it."""
    rows = connection.execute(
        """
        with told as (select delivery_id, max(at) as at from ledger.erased_record group by 1)
        select d.id, told.delivery_id, d.object, g.size, told.at,
               g.delivery_id is not null and g.closed_at is null or d.receipt is not null and d.receipt_at is null
        from told join ledger.delivery d on d.id = told.delivery_id or d.duplicate_of = told.delivery_id
        left join ledger.segment g on g.delivery_id = d.id left join ledger.shredded s on s.delivery_id = d.id
        where coalesce(d.object, '') <> '' and (s.at is null or s.at < told.at) order by d.id
        """
    ).fetchall()
    return (ToShred(*row) for row in rows)


def shredded(connection: Connection, done: ToShred) -> None:
    """Note that a delivery's object was written anew."""
    connection.execute(
        """
        insert into ledger.shredded (delivery_id, at) values (%s, %s)
        on conflict (delivery_id) do update set at = greatest(ledger.shredded.at, excluded.at)
        """,
        (done.delivery_id, done.asked_at),
    )


def records_of(connection: Connection, delivery_id: int) -> list[int]:
    """Return the ordinals of a delivery's erased records of which nobody knows yet where they stand."""
    rows = connection.execute(
        """
        select record_id & 4294967295 from ledger.erased_record
        where delivery_id = %s and start is null order by record_id
        """,
        (delivery_id,),
    )
    return [int(row[0]) for row in rows.fetchall()]


def standing(connection: Connection) -> list[dict[str, Any]]:
    """Return every erasure: when, who, counts, and what of it is still to be done."""
    cursor = connection.execute(
        """
        select e.id as erasure, e.at, e.actor, e.counts, e.ended_at,
               (select count(distinct r.delivery_id) from ledger.erased_record r
                left join ledger.shredded s on s.delivery_id = r.delivery_id
                where r.erasure_id = e.id and (s.at is null or s.at < r.at)) as deliveries_left,
               (select count(*) from ledger.erased_resource g join ledger.outbox o
                on o.resource_type = g.resource_type and o.id = g.id
                where g.erasure_id = e.id and o.state <> 'confirmed') as confirmations_left,
               (select array_agg(distinct o.destination order by o.destination) from ledger.erased_resource g
                join ledger.outbox o on o.resource_type = g.resource_type and o.id = g.id
                where g.erasure_id = e.id and o.state = 'refused') as refused_by
        from ledger.erasure e order by e.id
        """
    )
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
