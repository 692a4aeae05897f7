"""Fills the outbox inside the publishing transaction: what each destination should have."""

from __future__ import annotations

from tasks.ledger.db import Connection

RECORD = "!record"
"""In a row's destinations behind a name and before the record's number: it is sent the record itself.

In the outbox such a row has this as its resource type and the record's number as its id.
"""

FILL = """
with alone as materialized (
    -- one statement is all that the batch says of it: nothing is to be gathered
    select d.destination, w.resource_type, w.id, w.record_id, w.old_version, w.same
    from weighed w cross join lateral unnest(w.destinations) d(destination)
), single as (
    select destination, resource_type, id, array[record_id] as records, coalesce(old_version, 1) as version
    from alone where (same or old_version is null) and destination not like %(record)s
), staged as (
    select unnest(s.destinations) as destination, s.resource_type, s.id, s.record_id from said s
    where (not s.alone or s.living) and not exists (select from incoming i where i.living and i.place = s.place)
    union all
    select destination, resource_type, id, record_id from alone
    where not same and old_version is not null or destination like %(record)s
), wished as (
    select destination, resource_type, id, record_id, null::int as version from staged
    where destination not like %(record)s
    union all
    select split_part(destination, '!', 1), '!record', record_id::text, record_id, 1 from staged
    where destination like %(record)s
    union all
    select o.destination, c.resource_type, c.id, c.record_id, null
    from changed c join ledger.outbox o on o.resource_type = c.resource_type and o.id = c.id
    where c.old_version is not null
), gathered as (
    select destination, resource_type, id, array_agg(record_id) as records, max(version) as version,
           min(record_id) as first, max(record_id) as last
    from wished group by 1, 2, 3
), wanted as (
    select * from single
    union all
    -- one that came late has gone from `changed`: its version stands
    select g.destination, g.resource_type, g.id,
           -- one record is gathered twice where it changes what a destination has
           case when g.first = g.last then array[g.first]
           else (select array_agg(distinct record) from unnest(g.records) record) end,
           coalesce(g.version, coalesce(w.old_version, 0) + (c.id is not null)::int)
    from gathered g
    left join weighed w on w.resource_type = g.resource_type and w.id = g.id
    left join changed c on c.resource_type = g.resource_type and c.id = g.id
), due as materialized (
    select w.destination, w.resource_type, w.id, w.version as wanted, w.records, have.id is not null as queued
    from wanted w
    left join ledger.outbox have
        on have.destination = w.destination and have.resource_type = w.resource_type and have.id = w.id
    where w.version > 0 and (have.id is null or have.wanted < w.version or have.state in ('pending', 'refused'))
), renewed as (
    -- a destination's answer may come meanwhile: what counts is what stands here then
    update ledger.outbox o set
        wanted = due.wanted, state = 'pending', next_at = now(), attempts = 0, updated_at = now(),
        batches = case when o.state = 'pending' then o.batches else '{}' end || %(batch)s::bigint,
        records = case when o.state = 'pending' then o.records else '{}' end || due.records
    from due
    where due.queued and o.destination = due.destination and o.resource_type = due.resource_type and o.id = due.id
      and (o.wanted < due.wanted or o.state in ('pending', 'refused'))
    returning 1
), added as (
    -- publications alone queue, and are one at a time: nobody else adds what is not there
    insert into ledger.outbox (destination, resource_type, id, wanted, state, batches, records)
    select destination, resource_type, id, wanted, 'pending', array[%(batch)s::bigint], records from due
    where not queued order by id, resource_type, destination
    returning 1
)
select (select count(*) from renewed) + (select count(*) from added)
"""


def fill(connection: Connection, batch_id: int) -> int:
    """Queue what changed for every destination that a record is routed to or that has it already; return how much.

    Reads the temporary tables `said`, `incoming`, `weighed` and `changed`.
    """
    row = connection.execute(FILL, {"batch": batch_id, "record": f"%{RECORD}%"}).fetchone()
    assert row is not None  # noqa: S101 - counts are one row
    return int(row[0])
