"""Records that change their state or their batch after their batch was fixed; the slices' counts follow them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.ledger.db import Connection

State = Literal["quarantined", "duplicate", "filtered", "discarded"]


@dataclass(frozen=True, slots=True)
class Move:
    """A record's new state (None: it follows its batch) and its new batch (None: it stays in its own)."""

    record: int
    state: State | None
    batch: int | None = None


def move(connection: Connection, moves: Sequence[Move]) -> None:
    """Move records inside the caller's transaction, so that every delivery's counts stay what its records say."""
    connection.execute("create temp table if not exists moving (id bigint, state text, batch_id bigint) on commit drop")
    connection.execute("delete from moving")
    with connection.cursor().copy("copy moving from stdin") as copy:
        for one in moves:
            copy.write_row((one.record, one.state, one.batch))
    for statement in MOVE:
        connection.execute(statement)


MOVE = (
    """
    with delta as (
        select r.batch_id, r.id >> 32 as delivery_id,
               count(*) filter (where m.batch_id is not null) as left_it,
               count(*) filter (where m.state = 'quarantined') - count(*) filter (where r.state = 'quarantined') as q,
               count(*) filter (where m.state = 'duplicate') - count(*) filter (where r.state = 'duplicate') as d,
               count(*) filter (where m.state = 'filtered') - count(*) filter (where r.state = 'filtered') as f,
               count(*) filter (where m.state = 'discarded') - count(*) filter (where r.state = 'discarded') as x
        from moving m join ledger.record r on r.id = m.id group by 1, 2
    )
    update ledger.batch_slice s set
        received = s.received - left_it, quarantined = s.quarantined + q, duplicate = s.duplicate + d,
        filtered = s.filtered + f, discarded = s.discarded + x
    from delta where s.batch_id = delta.batch_id and s.delivery_id = delta.delivery_id
    """,
    # where reading begins for them: the nearest place in the delivery from which it was read before
    """
    insert into ledger.batch_slice (batch_id, delivery_id, first_ordinal, last_ordinal, start, received)
    select m.batch_id, m.delivery_id, m.first, m.last, (
        select s.start from ledger.batch_slice s
        where s.delivery_id = m.delivery_id and (s.start->>'ordinal')::bigint <= m.first
        order by (s.start->>'ordinal')::bigint desc limit 1
    ), m.n
    from (
        select batch_id, id >> 32 as delivery_id, min(id & 4294967295) as first, max(id & 4294967295) as last,
               count(*) as n
        from moving where batch_id is not null group by 1, 2
    ) m
    """,
    """
    insert into ledger.record_key (key, record_id)
    select r.key, r.id from moving m join ledger.record r on r.id = m.id
    where m.batch_id is not null and r.key is not null on conflict do nothing
    """,
    """
    update ledger.record r set state = m.state, batch_id = coalesce(m.batch_id, r.batch_id)
    from moving m where m.id = r.id
    """,
)
