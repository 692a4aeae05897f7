"""Fills the outbox inside the publishing transaction: what each destination should have."""

from __future__ import annotations

from tasks.ledger.db import Connection

RECORD = "!record"
"""In a row's destinations behind a name and before the record's number: it is sent the record itself.

In the outbox such a row has this as its resource type and the record's number as its id.
"""

FILL = """
with wished as (
    select split_part(destination.name, '!', 1) as destination,
           case when itself then '!record' else s.resource_type end as resource_type,
           case when itself then s.record_id::text else s.id end as id, s.record_id,
           case when itself then 1 end as version
    from staging.resource s cross join lateral unnest(s.destinations) destination(name)
    cross join lateral (select destination.name like %(record)s) how(itself)
    where s.batch_id = %(batch)s
    union
    select o.destination, c.resource_type, c.id, c.record_id, null
    from changed c join ledger.outbox o on o.resource_type = c.resource_type and o.id = c.id
    where c.old_version is not null
), wanted as (
    select destination, resource_type, id, array_agg(record_id) as records, max(version) as version
    from wished group by 1, 2, 3
), standing as (
    select w.resource_type, w.id,
           coalesce(w.old_version, 0) + (c.id is not null)::int as version
    from weighed w left join changed c on c.resource_type = w.resource_type and c.id = w.id
)
insert into ledger.outbox as o (destination, resource_type, id, wanted, state, batches, records)
select w.destination, w.resource_type, w.id, coalesce(w.version, s.version), 'pending', array[%(batch)s::bigint],
       w.records
from wanted w
left join standing s on s.resource_type = w.resource_type and s.id = w.id
left join ledger.outbox have
    on have.destination = w.destination and have.resource_type = w.resource_type and have.id = w.id
where coalesce(w.version, s.version) > 0
  and (have.id is null or have.wanted < coalesce(w.version, s.version) or have.state in ('pending', 'refused'))
order by w.id, w.resource_type, w.destination
on conflict (destination, resource_type, id) do update set
    wanted = excluded.wanted, state = 'pending', next_at = now(), attempts = 0, updated_at = now(),
    batches = case when o.state = 'pending' then o.batches || excluded.batches else excluded.batches end,
    records = case when o.state = 'pending' then o.records || excluded.records else excluded.records end
"""


def fill(connection: Connection, batch_id: int) -> int:
    """Queue what changed for every destination that a record is routed to or that has it already; return how much.

    Reads the batch's staged rows and the temporary tables `weighed` and `changed`.
    """
    return connection.execute(FILL, {"batch": batch_id, "record": f"%{RECORD}%"}).rowcount
