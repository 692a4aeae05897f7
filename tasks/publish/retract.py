"""Retraction: what a corrected delivery no longer says is taken back, as a fact with history, not as a hole.

The predecessor's statements go, except those of records that came again byte for byte; of a full delivery those of all
that came before it. A fact falls back on what others say of it, or is deleted; a living thing is folded anew from what
is left. Directories (places, organizations,
practitioners) are left alone: every other message says them too.
"""

from __future__ import annotations

from mappings.engine.json import digest
from tasks.feed import Feed
from tasks.ledger import batches, claims
from tasks.ledger.db import Connection
from tasks.model import DIRECTORY, record_id
from tasks.publish.fallback import fall_back
from tasks.publish.fold import fold
from tasks.publish.incoming import changes, create_incoming
from tasks.publish.store import Refresh, lock, settle

BEFORE = """
create temp table before on commit drop as
with recursive chain as (
    select corrects as id from ledger.delivery where id = %(delivery)s
    union all
    select d.corrects from ledger.delivery d join chain on d.id = chain.id where d.corrects is not null
)
-- the records of a duplicate are those of the delivery that it repeats; they stand while any name ends with them
select coalesce(d.duplicate_of, d.id) as id from chain join ledger.delivery d on d.id = chain.id
where not exists (
    select from ledger.delivery other
    where other.feed = d.feed and other.sha256 = d.sha256 and other.id <> %(delivery)s
      and coalesce(other.duplicate_of, other.id) = coalesce(d.duplicate_of, d.id)
      and other.state in ('landed', 'read', 'duplicate') and not exists (
        select from ledger.delivery later
        where later.feed = other.feed and later.name = other.name and later.id > other.id
          and later.state in ('landed', 'read', 'duplicate')
    )
)
union
-- a full delivery speaks for all that came before it; files of one archive come together
select d.id from ledger.delivery d join ledger.delivery f on f.id = %(delivery)s
where f.is_full and d.feed = f.feed and d.landed_at < f.landed_at and d.state in ('landed', 'read')
"""

REPEATED = """
create temp table repeated on commit drop as
select distinct r.key from ledger.delivery mine
join ledger.delivery beside
    on beside.feed = mine.feed and (beside.id = mine.id or mine.is_full and beside.landed_at = mine.landed_at)
join ledger.record r on r.id between beside.id << 32 and (beside.id << 32) + 4294967295
where mine.id = %(delivery)s and r.key is not null
"""

GONE = """
create temp table gone on commit drop as
select r.id from before
join ledger.record r on r.id between before.id << 32 and (before.id << 32) + 4294967295
left join ledger.quarantine q on q.record_id = r.id and q.stage = 'deliver'
where (r.state is null or q.record_id is not null)
  and not exists (select from ledger.retracted t where t.record_id = r.id)
  and not exists (select from repeated where repeated.key = r.key)
  -- another delivery says it too, and stands
  and not exists (
    select from ledger.record twin
    where twin.key = r.key and twin.state = 'duplicate' and not exists (select from before b where b.id = twin.id >> 32)
)
"""

FACTS = """
insert into incoming (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, resource)
select resource_type, id, coalesce(event_time, was_at), %(by)s, fhir_version, coalesce(deleted, true),
       coalesce(digest, %(nobody)s), false, coalesce(resource, was_resource)
from fallen
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

    Full ones too, of which there is one before. One of which an operator rejected a batch says too little to take
    anything back for it.
    """
    rows = connection.execute(
        """
        select d.id from ledger.delivery d
        where d.feed = %(feed)s and d.state = 'read' and d.retracted_at is null
          and (d.corrects is not null and %(replace)s or d.is_full and exists (
            select from ledger.delivery e where e.feed = d.feed and e.landed_at < d.landed_at and e.state = 'read'
          ))
          -- what a broken record of a full delivery would have said is not known: nothing is taken back for its sake
          and not (d.is_full and exists (
            select from ledger.quarantine q join ledger.delivery beside on beside.id = q.delivery_id
            where beside.feed = d.feed and beside.landed_at = d.landed_at and q.ended_at is null
              and q.stage <> 'deliver'
          ))
          and not exists (
            select from ledger.delivery beside
            left join ledger.batch_slice s on s.delivery_id = beside.id
            left join ledger.batch b on b.id = s.batch_id
            where beside.feed = d.feed and (beside.id = d.id or d.is_full and beside.landed_at = d.landed_at)
              and (b.state in ('staged', 'held', 'rejected') or beside.state = 'landed')
        )
        order by d.id
        """,
        {"feed": feed.name, "replace": feed.on_correction == "replace"},
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
        params = {
            "delivery": delivery,
            "by": record_id(delivery, 0),
            "directory": sorted(DIRECTORY),
            "nobody": digest("retracted"),
        }
        for statement in (BEFORE, REPEATED, GONE, "analyze gone", TOUCHED):
            connection.execute(statement, params)
        fall_back(connection)
        create_incoming(connection)
        for statement in (*TAKEN, FACTS):
            connection.execute(statement, params)
        fold(connection, "touched")
        connection.execute(EMPTY, params)
        changes(connection)
        published = settle(connection, batch_id, feed.name, feed.partner, refresh)
        connection.execute("update ledger.delivery set retracted_at = now() where id = %s", (delivery,))
    return published.changed
