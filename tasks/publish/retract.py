"""Retraction: what a corrected delivery no longer says is taken back, as a fact with history, not as a hole.

The predecessor's statements go, except those of records that came again byte for byte. A fact falls back on what was
said of it before, or is deleted; a living thing is folded anew from what is left. Directories (places, organizations,
practitioners) are left alone: every other message says them too.
"""

from __future__ import annotations

from mappings.engine.json import digest
from tasks.feed import Feed
from tasks.ledger import batches, claims
from tasks.ledger.db import Connection
from tasks.model import DIRECTORY, record_id
from tasks.publish.fold import fold
from tasks.publish.incoming import changes, create_incoming
from tasks.publish.store import Refresh, lock, settle

GONE = """
create temp table gone on commit drop as
with recursive chain as (
    select corrects as id from ledger.delivery where id = %(delivery)s
    union all
    select d.corrects from ledger.delivery d join chain on d.id = chain.id where d.corrects is not null
)
select r.id from chain
join ledger.record r on r.id between chain.id << 32 and (chain.id << 32) + 4294967295
left join ledger.quarantine q on q.record_id = r.id and q.stage = 'deliver'
where (r.state is null or q.record_id is not null) and not exists (
    select from ledger.record again
    where again.id between %(delivery)s::bigint << 32 and (%(delivery)s::bigint << 32) + 4294967295
      and again.key = r.key
)
-- another delivery says it too, and stands
and not exists (
    select from ledger.record twin
    where twin.key = r.key and twin.state = 'duplicate' and not exists (select from chain c where c.id = twin.id >> 32)
)
"""

FACTS = """
insert into incoming (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, resource)
select r.resource_type, r.id, r.event_time, %(by)s, r.fhir_version, before.id is null or before.deleted,
       coalesce(before.digest, ''), false, coalesce(before.resource, r.resource)
from fhir.resource r join gone on gone.id = r.record_id
left join lateral (
    select said.* from (
        select h.id, h.deleted, h.digest, h.resource, h.event_time, h.record_id from fhir.history h
        where h.resource_type = r.resource_type and h.id = r.id
        union all
        -- what came late stands aside until it is needed
        select l.id, l.deleted, l.digest, l.resource, l.event_time, l.record_id from fhir.late_fact l
        where l.resource_type = r.resource_type and l.id = r.id
    ) said
    where not exists (select from gone where gone.id = said.record_id)
    order by said.event_time desc, said.record_id desc limit 1
) before on true
where not r.deleted and r.resource_type <> all(%(directory)s)
  and not exists (select from fhir.contribution c where c.id = r.id and c.resource_type = r.resource_type)
  and not exists (select from touched t where t.id = r.id and t.resource_type = r.resource_type)
  and not exists (
    select from fhir.assertion a
    where a.delivery_id = %(delivery)s and a.resource_type = r.resource_type and a.id = r.id
  )
"""

TOUCHED = """
create temp table touched on commit drop as
select distinct c.resource_type, c.id, r.fhir_version from fhir.contribution c join gone on gone.id = c.record_id
join fhir.resource r on r.resource_type = c.resource_type and r.id = c.id
where c.resource_type <> all(%(directory)s)
"""

TAKEN = (
    """
    delete from fhir.contribution c using gone
    where gone.id = c.record_id and c.resource_type <> all(%(directory)s)
    """,
    # what they had made obsolete counts again
    """
    update fhir.contribution c set live = true from touched t
    where c.id = t.id and c.resource_type = t.resource_type and not c.live
    """,
    "delete from fhir.late_fact l using gone where gone.id = l.record_id",
    "delete from fhir.heard h using gone where gone.id = h.record_id",
    # what a record that stands said again is its own word now
    """
    with stands as (
        delete from fhir.heard h using fhir.resource r, gone
        where gone.id = r.record_id and h.resource_type = r.resource_type and h.id = r.id
        returning h.*
    )
    update fhir.resource r set record_id = s.record_id, event_time = s.event_time from stands s
    where r.resource_type = s.resource_type and r.id = s.id
    """,
    # what was taken back may come again, from the partner, but not from a replay
    "delete from ledger.record_key k using gone where k.record_id = gone.id",
    """
    insert into ledger.retracted (record_id, delivery_id) select id, %(delivery)s from gone on conflict do nothing
    """,
)

EMPTY = """
insert into incoming (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, resource)
select r.resource_type, r.id, r.event_time, %(by)s, r.fhir_version, true, r.digest, true, r.resource
from touched t join fhir.resource r on r.resource_type = t.resource_type and r.id = t.id
where not exists (select from incoming i where i.resource_type = t.resource_type and i.id = t.id)
"""


def due(connection: Connection, feed: Feed) -> list[int]:
    """Return corrected deliveries whose records are all in the store and whose predecessors still stand.

    One of which an operator rejected a batch says too little to take anything back for it.
    """
    if feed.on_correction != "replace":
        return []
    rows = connection.execute(
        """
        select d.id from ledger.delivery d
        where d.feed = %s and d.corrects is not null and d.state = 'read' and d.retracted_at is null
          and not exists (
            select from ledger.batch_slice s join ledger.batch b on b.id = s.batch_id
            where s.delivery_id = d.id and b.state in ('staged', 'held', 'rejected')
        )
        order by d.id
        """,
        (feed.name,),
    ).fetchall()
    return [int(row[0]) for row in rows]


def retract(
    connection: Connection, feed: Feed, delivery: int, token: int, *, refresh: Refresh, run_id: str = ""
) -> int:
    """Retract what only the predecessors of a corrected delivery said; return how many resources changed."""
    with connection.transaction():
        claims.check(connection, f"feed:{feed.name}", token)
        lock(connection)
        batch_id = batches.open_batch(connection, feed, token, run_id, "retraction")
        params = {"delivery": delivery, "by": record_id(delivery, 0), "directory": sorted(DIRECTORY)}
        connection.execute(GONE, params)
        connection.execute("analyze gone")
        create_incoming(connection)
        for statement in (TOUCHED, *TAKEN, FACTS):
            connection.execute(statement, params)
        fold(connection, "touched")
        connection.execute(EMPTY, params)
        connection.execute("update incoming set digest = %s where digest = ''", (digest("retracted"),))
        changes(connection)
        published = settle(connection, batch_id, feed.name, feed.partner, refresh)
        connection.execute("delete from fhir.assertion where delivery_id = %s", (delivery,))
        connection.execute("update ledger.delivery set retracted_at = now() where id = %s", (delivery,))
    return published.changed
