"""What a destination should be sent again: what it refused, or whatever an operator asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tasks.ledger.db import Connection
from tasks.ledger.moves import Move, move
from tasks.replay import stopped

REFUSED = """
select r.id from ledger.record r join ledger.quarantine q on q.record_id = r.id
where r.id = any(%s) and q.feed = %s and q.ended_at is null and q.stage = 'deliver' and r.state = 'quarantined'
order by r.id for update of r
"""

AGAIN = """
with mine as (
    select o.destination, o.resource_type, o.id, array_agg(distinct r.batch_id) as batches from ledger.record r
    join ledger.outbox o on o.state = 'refused' and o.records @> array[r.id]
    where r.id = any(%s) group by 1, 2, 3
), pending as (
    update ledger.outbox o set
        state = 'pending', attempts = 0, next_at = now(), updated_at = now(), batches = mine.batches
    from mine where o.destination = mine.destination and o.resource_type = mine.resource_type and o.id = mine.id
    returning mine.batches
)
update ledger.batch b set awaiting = b.awaiting + waiting.n, state = 'stored', published_at = null
from (select unnest(batches) as batch_id, count(*) as n from pending group by 1) waiting where b.id = waiting.batch_id
"""

SENT = """
with mine as (
    select resource_type, id from fhir.resource where record_id = any(%(records)s)
    union
    select resource_type, id from fhir.contribution where record_id = any(%(records)s)
    union
    select '!record', record::text from unnest(%(records)s::bigint[]) record
)
update ledger.outbox o set state = 'pending', attempts = 0, next_at = now(), updated_at = now(), batches = '{}'
from mine
where o.destination = %(destination)s and o.state <> 'pending' and o.resource_type = mine.resource_type
  and o.id = mine.id
returning o.resource_type
"""


def refused(connection: Connection, feed: str, records: Sequence[int], reason: str) -> int:
    """Send what destinations refused of these records again; return how many of the records are back in flight."""
    rows = connection.execute(REFUSED, (list(records), feed)).fetchall()
    mine = [int(row[0]) for row in rows]
    if mine:
        move(connection, [Move(record, None) for record in mine])
        stopped.end(connection, mine, "released", reason)
        connection.execute(AGAIN, (mine,))
    return len(mine)


def sent(connection: Connection, destination: str, records: Sequence[int]) -> Counter[str]:
    """Queue everything that these records say for a destination again; return counts by resource type."""
    rows = connection.execute(SENT, {"destination": destination, "records": list(records)}).fetchall()
    return Counter(str(row[0]) for row in rows)
