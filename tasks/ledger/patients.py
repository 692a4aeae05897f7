"""Who waits behind a held batch: records about the same patients, and they alone."""

from __future__ import annotations

from tasks.ledger import claims
from tasks.ledger.apart import set_apart
from tasks.ledger.db import Connection

PATIENT = """
case when s.resource_type = 'Patient' then s.id
     else substring(coalesce(s.resource::jsonb #>> '{subject,reference}', s.resource::jsonb #>> '{patient,reference}',
                             s.resource::jsonb #>> '{beneficiary,reference}') from 'Patient/([A-Za-z0-9.-]+)$') end
"""
"""The patient that a staged resource is about."""

BLOCKED = f"""
with waiting as materialized (
    select distinct b.id, {PATIENT} as patient from ledger.batch b join staging.resource s on s.batch_id = b.id
    where b.feed = (select feed from ledger.batch where id = %(batch)s) and b.state = 'held' and b.id <> %(batch)s
), mine as materialized (
    -- each resource is read once: joined on the expression itself, every pair of them would be
    select s.record_id, {PATIENT} as patient from staging.resource s
    where s.batch_id = %(batch)s and exists (select from waiting)
)
select mine.record_id, array_agg(distinct waiting.id order by waiting.id)
from mine join waiting using (patient) group by mine.record_id
"""  # noqa: S608


def hold_back(connection: Connection, batch_id: int, token: int) -> int | None:
    """Put the batch's records about patients of held batches into a held batch of their own.

    Returns that batch; None where there are no such records. Call it before the gate looks, in no transaction. Raises
    `LeaseLost` where another worker has taken the feed over.
    """
    with connection.transaction():
        feed = connection.execute("select feed from ledger.batch where id = %s", (batch_id,)).fetchone()
        assert feed is not None  # noqa: S101
        claims.check(connection, f"feed:{feed[0]}", token)
        rows = connection.execute(BLOCKED.encode(), {"batch": batch_id}).fetchall()
        if not rows:
            return None
        behind = sorted({batch for _, batches in rows for batch in batches})
        verdict = {"passed": False, "results": [], "behind": behind}
        return set_apart(connection, batch_id, [record for record, _ in rows], "held", verdict)


def let_go(connection: Connection, feed: str, token: int) -> list[int]:
    """Free batches that wait behind others which are held no more; return them: the gate looks at them now.

    Raises `LeaseLost` where another worker has taken the feed over.
    """
    with connection.transaction():
        claims.check(connection, f"feed:{feed}", token)
        return _let_go(connection, feed)


def _let_go(connection: Connection, feed: str) -> list[int]:
    rows = connection.execute(
        """
        update ledger.batch b set state = 'staged', verdict = b.verdict - 'behind'
        where b.feed = %s and b.state = 'held' and b.verdict ? 'behind' and not exists (
            select from ledger.batch other
            where other.state = 'held' and other.id in (select jsonb_array_elements(b.verdict->'behind')::bigint)
        )
        returning b.id
        """,
        (feed,),
    ).fetchall()
    return sorted(int(row[0]) for row in rows)
