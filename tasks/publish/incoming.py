"""What each touched resource should now be: worked out from a staged batch or a retraction, written by the store.

Two temporary tables, both without the resources themselves where those can be fetched from staging: `said`, one row a
staged statement, and `incoming`, one row a resource. A fact is replaced whole by its newest statement; a thing that
lives on is folded from the newest word in each of its fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from psycopg.sql import SQL, Literal

from tasks.ledger.db import Connection
from tasks.publish.fold import fold

SAID = """
create temp table said on commit drop as
select s.ctid as place, s.resource_type collate "C" as resource_type, s.id, s.record_id, s.event_time, s.fhir_version,
       s.deleted, s.digest, s.destinations, s.slots is not null as living, row_number() over thing as turn,
       row_number() over thing = 1 and lead(true) over thing is null as alone
from staging.resource s where s.batch_id = %(batch)s
-- by id first: that alone tells nearly all of them apart
window thing as (
    partition by s.id, s.resource_type collate "C", s.slots is not null order by s.event_time desc, s.record_id desc
)
"""

KINDS = """
select resource_type, bool_or(living), bool_or(not living and not alone) from said group by resource_type
"""

INCOMING = """
create temp table incoming (
    resource_type text collate "C", id text collate "C", event_time timestamptz, record_id bigint, fhir_version text,
    deleted boolean, digest bytea, living boolean, place tid, resource jsonb, destinations text[]
) on commit drop
"""

# of a thing that nobody spoke of before, one statement is all there is to fold
NEW_THINGS = """
insert into incoming
    (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, place, destinations)
select s.resource_type, s.id, s.event_time, s.record_id, s.fhir_version, s.deleted, s.digest, true, s.place,
       s.destinations
from said s where s.living and s.alone and s.resource_type = {kind}
  and not exists (select from fhir.resource r where r.resource_type = {kind} and r.id = s.id)
"""

TOUCHED = """
create temp table touched on commit drop as
select s.resource_type, s.id, max(s.fhir_version) as fhir_version from said s
where s.living and not exists (
    select from incoming i where i.living and i.resource_type = s.resource_type and i.id = s.id
)
group by s.resource_type, s.id
"""

# what a record says again in the words that are kept of it is left alone: it neither revives nor replaces anything
UNCHANGED = """
delete from said s using (
    select distinct on (resource_type, id, record_id) resource_type, id, record_id, event_time, place
    from said where living order by resource_type, id, record_id, turn
) again
join fhir.contribution c
    on c.id = again.id and c.resource_type = again.resource_type and c.record_id = again.record_id
cross join lateral (select slots from staging.resource r where r.ctid = again.place offset 0) staged
where s.living and s.id = again.id and s.resource_type = again.resource_type and s.record_id = again.record_id
  and c.event_time = again.event_time and c.said = staged.slots::jsonb
"""

# a record that is staged again may say less than it did: what it had made obsolete counts again
REVIVE = """
update fhir.contribution c set live = true
from (
    select distinct s.resource_type, s.id from touched t
    join said s on s.resource_type = t.resource_type and s.id = t.id and s.living
    join fhir.contribution mine on mine.id = s.id and mine.resource_type = s.resource_type
        and mine.record_id = s.record_id
) again
where c.id = again.id and c.resource_type = again.resource_type and not c.live
"""

CONTRIBUTE = """
insert into fhir.contribution as c (resource_type, id, record_id, event_time, said)
select s.resource_type, s.id, s.record_id, s.event_time, staged.slots::jsonb
from (
    select resource_type, id, record_id, event_time, place from said where living and alone
    union all
    (select distinct on (resource_type, id, record_id) resource_type, id, record_id, event_time, place
     from said where living and not alone order by resource_type, id, record_id, turn)
) s cross join lateral (select slots from staging.resource r where r.ctid = s.place offset 0) staged
where staged.slots <> '{}'
on conflict (id, resource_type, record_id) do update
    set event_time = excluded.event_time, said = excluded.said, live = true
    where (c.event_time, c.said, c.live) is distinct from (excluded.event_time, excluded.said, true)
"""

WEIGHED = """
create temp table weighed (
    resource_type text collate "C", id text collate "C", event_time timestamptz, record_id bigint, fhir_version text,
    deleted boolean, digest bytea, living boolean, place tid, folded tid, destinations text[], old_version int,
    old_time timestamptz, old_record bigint, old_digest bytea, old_deleted boolean, same boolean
) on commit drop
"""

# the store is looked into once: what stands there of each resource, and whether that says the same; with where it is to
# go, where one statement is all that a batch says of it
WEIGH = """
insert into weighed
select i.*, r.version_id, r.event_time, r.record_id, r.digest, r.deleted,
       r.id is not null and r.digest = i.digest and r.deleted = i.deleted
from (
    select resource_type, id, event_time, record_id, fhir_version, deleted, digest, false as living, place,
           null::tid as folded, case when alone then destinations end as destinations
    from said where not living and turn = 1 and resource_type = {kind}
    union all
    select resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, place, ctid, destinations
    from incoming where resource_type = {kind}
) i left join fhir.resource r on r.resource_type = {kind} and r.id = i.id
"""

CHANGED = """
create temp table changed on commit drop as
select w.resource_type, w.id, w.event_time, w.record_id, w.fhir_version, w.deleted, w.digest, w.place, w.folded,
       w.old_version,
       case when w.living or w.old_version is null then false
       else (w.event_time, w.record_id) < (w.old_time, w.old_record) or w.event_time < (
           -- said again in the same words: an older statement that comes later cannot win
           select max(a.event_time) from fhir.said_again a
           where a.resource_type = w.resource_type and a.id = w.id and a.digest = w.old_digest
             and a.deleted = w.old_deleted
       ) end as late
from weighed w where not w.same
"""

WEIGH_UP = (CHANGED, "analyze changed (resource_type, id, old_version)")

LATE = """
with late as (delete from changed where late returning *)
insert into fhir.late_fact (resource_type, id, record_id, event_time, deleted, digest, resource)
select l.resource_type, l.id, l.record_id, l.event_time, l.deleted, l.digest, coalesce(i.resource, s.resource::jsonb)
from late l left join staging.resource s on s.ctid = l.place left join incoming i on i.ctid = l.folded
on conflict do nothing
"""

# statements of a fact that are not its newest in the batch stand aside as well
OLDER = """
insert into fhir.late_fact (resource_type, id, record_id, event_time, deleted, digest, resource)
select o.resource_type, o.id, o.record_id, o.event_time, o.deleted, o.digest, s.resource::jsonb
from said o join said n on n.resource_type = o.resource_type and n.id = o.id and n.turn = 1 and not n.living
join staging.resource s on s.ctid = o.place
where not o.living and o.turn > 1 and o.record_id <> n.record_id
  and (o.digest <> n.digest or o.deleted <> n.deleted)
on conflict (id, resource_type, record_id) do update
    set event_time = excluded.event_time, deleted = excluded.deleted, digest = excluded.digest,
        resource = excluded.resource
"""

# what a record said of it before goes: it has no key that would refuse a second row, which costs more than such a row
AGAIN_INTO = """
with told as ({said}), before as (
    delete from fhir.said_again a using told t
    where a.record_id between (select min(record_id) from told) and (select max(record_id) from told)
      and a.record_id = t.record_id and a.id = t.id and a.resource_type = t.resource_type
)
insert into fhir.said_again (resource_type, id, record_id, event_time, deleted, digest)
select resource_type, id, record_id, event_time, deleted, digest from told order by id
"""
# who says a fact in the words in which it stands already
AGAIN = AGAIN_INTO.format(
    said="""
select resource_type, id, record_id, event_time, deleted, digest
from weighed where same and not living and record_id <> old_record
"""
)
# or in those of the newest statement beside it
AGAIN_BESIDE = AGAIN_INTO.format(
    said="""
select distinct o.resource_type, o.id, o.record_id, o.event_time, o.deleted, o.digest
from said o join said n on n.resource_type = o.resource_type and n.id = o.id and n.turn = 1 and not n.living
where not o.living and o.turn > 1 and o.record_id <> n.record_id and o.digest = n.digest and o.deleted = n.deleted
"""
)


def create_incoming(connection: Connection) -> None:
    """Make the empty table of what each touched resource should now be."""
    connection.execute(INCOMING)


def of_batch(connection: Connection, batch_id: int, *, again: bool = False) -> int:
    """Keep what a staged batch contributes, fill `incoming` and `changed` from it; return how many rows were staged.

    A fact that comes after a newer one has been published is kept aside: nothing is lost, and the newer one stands.
    `again`: the store has the batch's records already, so that most of what they say is known to it.
    """
    staged = connection.execute(SAID, {"batch": batch_id}).rowcount
    connection.execute("analyze said (resource_type, id, living, alone, turn)")
    create_incoming(connection)
    kinds = connection.execute(KINDS).fetchall()
    if living := [kind for kind, is_living, _ in kinds if is_living]:
        by_type(connection, NEW_THINGS, living)
        for statement in (TOUCHED, *((UNCHANGED,) if again else ()), REVIVE, CONTRIBUTE):
            connection.execute(statement)
        fold(connection, "touched")
    weigh(connection)
    repeated = any(is_repeated for *_, is_repeated in kinds)
    for statement in (AGAIN, *((AGAIN_BESIDE, OLDER) if repeated else ()), *WEIGH_UP, LATE):
        connection.execute(statement)
    return staged


def changes(connection: Connection) -> None:
    """Make the tables `weighed` and `changed`: what in `incoming` differs, and the version that is there.

    For what no batch says: the table `said` is empty.
    """
    connection.execute(SAID, {"batch": None})
    weigh(connection)
    for statement in WEIGH_UP:
        connection.execute(statement)


def weigh(connection: Connection) -> None:
    """Compare what `incoming` and the facts of `said` say with what the store has."""
    connection.execute("analyze incoming (resource_type, id, living)")
    connection.execute(WEIGHED)
    kinds = connection.execute("select resource_type from said union select resource_type from incoming").fetchall()
    by_type(connection, WEIGH, sorted(kind for (kind,) in kinds))
    connection.execute("analyze weighed (resource_type, id, living, same)")


def by_type(
    connection: Connection, statement: str, kinds: Iterable[str], params: Mapping[str, Any] | None = None
) -> None:
    """Run a statement for each resource type, as the literal `{kind}`.

    A type that the planner knows is one partition of the store; one that comes with the rows is all of them, row by
    row.
    """
    for kind in kinds:
        connection.execute(SQL(statement).format(kind=Literal(kind)), params)
