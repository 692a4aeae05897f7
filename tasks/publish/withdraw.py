"""Withdrawal: what records said under earlier maps and no longer say is staged to be taken back."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.ledger.db import Connection
from tasks.model import DELETED
from tasks.publish.fallback import fall_back

UNSAID = """
with gone as (
    delete from fhir.contribution c
    where c.record_id = any(%(records)s) and not exists (
        select from staging.resource s
        where s.batch_id = %(batch)s and s.record_id = c.record_id and s.resource_type = c.resource_type
          and s.id = c.id and s.slots <> '{}'
    )
    returning c.resource_type, c.id, c.record_id, c.event_time
)
insert into unsaid select distinct on (resource_type, id) * from gone
order by resource_type, id, event_time desc, record_id desc
"""

# what they had made obsolete counts again
REVIVE = """
update fhir.contribution c set live = true from unsaid u
where c.id = u.id and c.resource_type = u.resource_type and not c.live
"""

THINGS = """
insert into staging.resource
    (batch_id, record_id, resource_type, id, event_time, fhir_version, deleted, destinations, digest, resource, slots)
select %(batch)s, u.record_id, u.resource_type, u.id, u.event_time, r.fhir_version, true, '{}', r.digest,
       r.resource::text,
       case when exists (
           select from fhir.contribution c where c.id = u.id and c.resource_type = u.resource_type
       ) then '{}' else jsonb_build_object(%(deleted)s::text, '[]'::jsonb)::text end
from unsaid u join fhir.resource r on r.resource_type = u.resource_type and r.id = u.id
where not exists (
    select from staging.resource s
    where s.batch_id = %(batch)s and s.resource_type = u.resource_type and s.id = u.id and s.slots is not null
)
"""

FACTS = """
insert into staging.resource
    (batch_id, record_id, resource_type, id, event_time, fhir_version, deleted, destinations, digest, resource, slots)
select %(batch)s, f.was, f.resource_type, f.id, f.was_at, f.fhir_version, coalesce(f.deleted, true), '{}',
       coalesce(f.digest, f.was_digest), coalesce(f.resource, f.was_resource)::text, null
from fallen f
where not exists (select from unsaid u where u.resource_type = f.resource_type and u.id = f.id)
"""


def withdraw(connection: Connection, batch_id: int, records: Sequence[int]) -> None:
    """Stage for a batch that holds `records` again what they said before and say no longer.

    A thing that others speak of is folded from what those say, a fact that others say falls back on them; what nobody
    says any more is deleted.
    """
    connection.execute(
        """
        create temp table unsaid (resource_type text, id text collate "C", record_id bigint, event_time timestamptz)
        on commit drop
        """
    )
    params = {"batch": batch_id, "records": list(records), "deleted": DELETED}
    connection.execute("create temp table gone on commit drop as select unnest(%(records)s::bigint[]) as id", params)
    fall_back(connection, batch_id)
    for statement in (UNSAID, REVIVE, THINGS, FACTS):
        connection.execute(statement, params)
