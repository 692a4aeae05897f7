"""Full deliveries: whether all of one is staged, and how much of what stood before it no longer holds."""

from __future__ import annotations

from tasks.ledger.db import Connection
from tasks.model import DIRECTORY

MINE = """
select distinct beside.id from ledger.batch_slice s
join ledger.delivery d on d.id = s.delivery_id and d.is_full
join ledger.delivery beside on beside.feed = d.feed and beside.is_full and beside.landed_at = d.landed_at
where s.batch_id = %(batch)s and beside.state <> 'duplicate'
"""

BEING_READ = f"""
select exists (select from ledger.delivery d where d.state = 'landed' and d.id in ({MINE}))
"""  # noqa: S608

PART_READ = """
select exists (
    select from ledger.batch_slice s join ledger.delivery d on d.id = s.delivery_id
    where s.batch_id = %(batch)s and d.state = 'landed'
      and not exists (select from ledger.segment g where g.delivery_id = d.id)
)
"""

# by (type, id): what stands of the feed's earlier deliveries, and which of it this delivery says in any way
VANISHED = f"""
with mine as materialized ({MINE}),
ranges as (select id << 32 as low, (id << 32) + 4294967295 as high from mine),
earlier as materialized (
    select d.id << 32 as low, (d.id << 32) + 4294967295 as high from ledger.delivery d
    where d.feed = (select feed from ledger.batch where id = %(batch)s) and d.state = 'read'
      and d.landed_at < (select min(m.landed_at) from ledger.delivery m where m.id in (select id from mine))
),
stood as (
    select r.resource_type, r.id, r.record_id from earlier e
    join fhir.resource r on r.record_id between e.low and e.high where not r.deleted
    union
    select c.resource_type, c.id, c.record_id from earlier e
    join fhir.contribution c on c.record_id between e.low and e.high
    union
    select s.resource_type, s.id, s.record_id from earlier e
    join fhir.said_again s on s.record_id between e.low and e.high
),
repeated as (
    select first.id as record_id from ranges
    join ledger.record r on r.id between ranges.low and ranges.high and r.state = 'duplicate'
    join ledger.record first on first.key = r.key and first.id < r.id
),
said as (
    select s.resource_type, s.id from ranges join staging.resource s on s.record_id between ranges.low and ranges.high
    union
    select r.resource_type, r.id from ranges join fhir.resource r on r.record_id between ranges.low and ranges.high
    union
    select c.resource_type, c.id from ranges join fhir.contribution c on c.record_id between ranges.low and ranges.high
    union
    select a.resource_type, a.id from ranges join fhir.said_again a on a.record_id between ranges.low and ranges.high
    union
    select s.resource_type, s.id from stood s join repeated on repeated.record_id = s.record_id
),
things as (select distinct resource_type, id from stood where resource_type <> all(%(directory)s))
select count(*), count(*) filter (
    where not exists (select from said s where s.resource_type = t.resource_type and s.id = t.id)
)
from things t where exists (select from mine)
"""  # noqa: S608


def is_being_read(connection: Connection, batch_id: int, *, limited: bool) -> bool:
    """Say whether a batch has a part of a full delivery of which more is to be staged.

    Where bad records are `limited` every delivery counts, but a listener's segment, whose end nobody waits for.
    """
    for query in (BEING_READ, PART_READ)[: 1 + limited]:
        row = connection.execute(query.encode(), {"batch": batch_id}).fetchone()
        if row and row[0]:
            return True
    return False


def vanished_percent(connection: Connection, batch_id: int) -> float | None:
    """Return how much of what stood before a full delivery, of which the batch has a part, it no longer says.

    None where the batch has no part of such a one, or nothing stood.
    """
    row = connection.execute(VANISHED.encode(), {"batch": batch_id, "directory": sorted(DIRECTORY)}).fetchone()
    return None if row is None or not row[0] else 100.0 * row[1] / row[0]
