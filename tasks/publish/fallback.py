"""What a fact falls back on when the record that made it no longer says it.

What others say of it stands: in the same words (`fhir.said_again`), in older ones (history) or in ones that came late
(`fhir.late_fact`). The newest of these by event time takes its place; of a fact that nobody says any more nothing does.
"""

from __future__ import annotations

from mappings.engine.json import digest
from tasks.ledger.db import Connection
from tasks.model import DIRECTORY
from tasks.publish.incoming import AGAIN_INTO
from tasks.publish.store import lock
from tasks.publish.tables import refresh

# record 0 of a delivery stands for its retraction: what it says is what another record, traced here, said before
LOST = """
create temp table lost on commit drop as
select made.resource_type, made.id from (
    select r.resource_type, r.id from fhir.resource r join gone on gone.id = r.record_id
    union
    select s.resource_type, s.id from fhir.said_again s join gone on gone.id = s.record_id
    join fhir.resource r on r.resource_type = s.resource_type and r.id = s.id and r.digest = s.digest
    where r.record_id & 4294967295 = 0
) made
where not exists (
    select from staging.resource again
    where again.batch_id = %(batch)s and again.resource_type = made.resource_type and again.id = made.id
)
"""

FALLEN = """
create temp table fallen on commit drop as
select r.resource_type, r.id, r.record_id as was, r.event_time as was_at, r.fhir_version, r.digest as was_digest,
       r.resource as was_resource, before.record_id, before.event_time, before.deleted, before.digest, before.resource
from lost join fhir.resource r on r.resource_type = lost.resource_type and r.id = lost.id
left join lateral (
    select said.* from (
        select h.record_id, h.event_time, h.deleted, h.digest, h.resource from fhir.history h
        where h.resource_type = r.resource_type and h.id = r.id and h.record_id & 4294967295 <> 0
        union all
        select l.record_id, l.event_time, l.deleted, l.digest, l.resource from fhir.late_fact l
        where l.resource_type = r.resource_type and l.id = r.id
        union all
        select s.record_id, s.event_time, s.deleted, s.digest, coalesce(
            case when s.digest = r.digest or s.deleted then r.resource end,
            (select h.resource from fhir.history h
             where h.resource_type = s.resource_type and h.id = s.id and h.digest = s.digest limit 1),
            (select l.resource from fhir.late_fact l
             where l.resource_type = s.resource_type and l.id = s.id and l.digest = s.digest limit 1)
        )
        from fhir.said_again s where s.resource_type = r.resource_type and s.id = r.id
    ) said
    where said.resource is not null and not exists (select from gone where gone.id = said.record_id)
      and not exists (select from ledger.retracted t where t.record_id = said.record_id)
    order by said.event_time desc, said.record_id desc limit 1
) before on true
where not r.deleted and r.resource_type <> all(%(directory)s)
  and not exists (select from fhir.contribution c where c.id = r.id and c.resource_type = r.resource_type)
"""

# the same words: the version stands, and is another record's now, also where analysts read it
KEPT = """
create temp table kept on commit drop as
select r.resource_type, r.id, r.version_id as old_version, f.record_id, f.event_time
from fallen f join fhir.resource r on r.resource_type = f.resource_type and r.id = f.id
where f.digest = f.was_digest and not f.deleted
"""
SAME = """
update fhir.resource r set record_id = k.record_id, event_time = k.event_time from kept k
where r.resource_type = k.resource_type and r.id = k.id
"""

# other words: they are published anew, and whose they are stays known
TRACE = AGAIN_INTO.format(
    said="""
select resource_type, id, record_id, event_time, false as deleted, digest from fallen
where digest <> was_digest and not deleted
"""
)

FORGET = "delete from fhir.said_again s using gone where gone.id = s.record_id"
OWN = """
delete from fhir.said_again s using fhir.resource r, fallen f
where r.resource_type = f.resource_type and r.id = f.id and s.resource_type = r.resource_type and s.id = r.id
  and s.record_id = r.record_id
"""


def fall_back(connection: Connection, batch_id: int | None = None) -> None:
    """Fill the table `fallen` for the records of `gone`: each fact that they made, and what takes its place.

    Where that says the same, the version is given to it and nothing changes; the others are the caller's to publish.
    Facts that a staged batch speaks of anyway are left to it. Call it before what `gone` says is deleted.
    """
    connection.execute(LOST, {"batch": batch_id})
    connection.execute(FALLEN, {"directory": sorted(DIRECTORY)})
    connection.execute("update fallen set digest = %s where digest = ''", (digest("retracted"),))
    lock(connection)
    if connection.execute(KEPT).rowcount:
        connection.execute(SAME)
        refresh(connection, "kept")
    for statement in (TRACE, FORGET, OWN):
        connection.execute(statement)
    connection.execute("delete from fallen where digest = was_digest and not deleted")
