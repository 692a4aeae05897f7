"""Held batches: what the gate stopped, and what an operator decides about it."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from tasks.errors import ConfigError
from tasks.ledger import audit
from tasks.ledger.db import Connection

HELD = """
select b.id as batch, b.feed, b.created_at, b.run_id as run,
       (select sum(s.received - s.quarantined - s.duplicate - s.filtered - s.discarded)::bigint
        from ledger.batch_slice s where s.batch_id = b.id) as records,
       (select array_agg(d.name order by d.id) from ledger.batch_slice s join ledger.delivery d on d.id = s.delivery_id
        where s.batch_id = b.id and s.received > s.quarantined + s.duplicate + s.filtered + s.discarded) as deliveries,
       (select array_agg(concat_ws(' ', r->>'table', r->>'expectation', nullif(r->>'place', '')) order by n)
        from jsonb_array_elements(b.verdict->'results') with ordinality as result(r, n)
        where r->>'severity' = 'critical' and not (r->>'held')::boolean) as failed,
       (select array_agg(other::bigint order by other::bigint)
        from jsonb_array_elements(b.verdict->'behind') other) as behind
from ledger.batch b where b.state = 'held' and (%(feed)s::text is null or b.feed = %(feed)s) order by b.id
"""

AHEAD = """
select other.id from ledger.batch b join ledger.batch other
    on other.id in (select jsonb_array_elements(b.verdict->'behind')::bigint) and other.state = 'held'
where b.id = %s order by 1
"""

REJECT = """
with ended as (
    update ledger.record set state = 'discarded' where batch_id = %(batch)s and state is null returning id, key
), free as (
    -- the same message sent again is a new try, not a duplicate of what was thrown away
    delete from ledger.record_key k using ended where k.key = ended.key and k.record_id = ended.id
), counted as (
    update ledger.batch_slice s set discarded = s.discarded + e.n
    from (select id >> 32 as delivery_id, count(*) as n from ended group by 1) e
    where s.batch_id = %(batch)s and s.delivery_id = e.delivery_id
)
select count(*) from ended
"""


def held(connection: Connection, feed: str | None = None) -> list[dict[str, Any]]:
    """Return the batches that are held, oldest first, each with its records' count and why.

    That is the checks that failed, or the held batches about the same patients that it waits behind.
    """
    cursor = connection.execute(HELD, {"feed": feed})
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def release(connection: Connection, batch_id: int, actor: str, reason: str) -> int:
    """Let a held batch pass: the feed's next run publishes it; return how many records it has.

    Raises `ConfigError` where the batch is not held, or waits behind others: it would overtake what they say.
    """
    with connection.transaction():
        count = _going(connection, batch_id)
        if ahead := [str(row[0]) for row in connection.execute(AHEAD, (batch_id,)).fetchall()]:
            raise ConfigError(
                f"batch {batch_id} waits behind {', '.join(ahead)}, which is about the same patients: release or "
                "reject that, and this one goes on by itself"
            )
        number = audit.append(connection, actor, "gate-release", f"batch:{batch_id}", reason, counts={"records": count})
        _move(connection, batch_id, "staged", {"released": {"by": actor, "audit": number}})
    return count


def reject(connection: Connection, batch_id: int, actor: str, reason: str) -> int:
    """End the records of a held batch as discarded; return how many. Raises `ConfigError` where it is not held."""
    with connection.transaction():
        _going(connection, batch_id)
        row = connection.execute(REJECT, {"batch": batch_id}).fetchone()
        count = int(row[0]) if row else 0
        connection.execute("delete from staging.resource where batch_id = %s", (batch_id,))
        connection.execute("update ledger.batch set staged_rows = 0 where id = %s", (batch_id,))
        number = audit.append(connection, actor, "gate-reject", f"batch:{batch_id}", reason, counts={"records": count})
        _move(connection, batch_id, "rejected", {"rejected": {"by": actor, "audit": number}})
    return count


def _going(connection: Connection, batch_id: int) -> int:
    """Hold the batch's row still and count its records that go on; raises `ConfigError` where it is not held."""
    row = connection.execute("select state from ledger.batch where id = %s for update", (batch_id,)).fetchone()
    if row is None or row[0] != "held":
        state = f"is {row[0]}, not held" if row else "is not known"
        raise ConfigError(f"batch {batch_id} {state}; `sluice gate list` prints those that are")
    counted = connection.execute(
        "select count(*) from ledger.record where batch_id = %s and state is null", (batch_id,)
    ).fetchone()
    return int(counted[0]) if counted else 0


def _move(connection: Connection, batch_id: int, state: str, note: dict[str, Any]) -> None:
    connection.execute(
        "update ledger.batch set state = %s, verdict = coalesce(verdict, '{}') || %s where id = %s",
        (state, Jsonb(note), batch_id),
    )
