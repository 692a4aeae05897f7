"""Takes a patient out of the store: versions, history, contributions, tables, what is staged; tells destinations.

All of it in the caller's transaction, on the temporary tables that `find.gather` filled. What a destination has, or may
have, leaves a tombstone of type and id behind, from which the outbox deletes it there; when that is confirmed, the
tombstone goes too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mappings.engine.json import digest
from tasks.ledger import erased, spoken
from tasks.ledger.db import Connection
from tasks.ledger.moves import Move, move
from tasks.model import DIRECTORY
from tasks.publish.tables import refresh

COUNTS = {
    "resources": """
        select d.resource_type, count(*) from gone d
        join fhir.resource r on r.resource_type = d.resource_type and r.id = d.id group by 1 order by 1
    """,
    "versions": """
        select count(*) from gone d
        join fhir.version v on v.resource_type = d.resource_type and v.id = d.id
    """,
    "records": "select count(*) from mine",
    "deliveries": "select count(distinct record_id >> 32) from mine",
    "destinations": """
        select o.destination, count(*) from gone d
        join ledger.outbox o on o.resource_type = d.resource_type and o.id = d.id group by 1 order by 1
    """,
    "sent_on": """
        select o.destination, count(*) from mine
        join ledger.outbox o on o.resource_type = '!record' and o.id = mine.record_id::text and o.state = 'confirmed'
        group by 1 order by 1
    """,
    "left": """
        select resource_type, count(distinct id) from doomed d where not own and resource_type <> 'Patient'
          and not exists (select from doomed o where o.own and o.resource_type = d.resource_type and o.id = d.id)
        group by 1 order by 1
    """,
    "shared_records": """
        select count(distinct m.record_id) from mine m join fhir.version v on v.record_id = m.record_id
        where v.resource_type = 'Patient' and v.id <> all(%(ids)s)
    """,
}

TAKE_OUT = (
    """
    with out as (
        -- a directory's entry stands once for all records of a batch that say it, and is nobody's data
        delete from staging.resource s using mine
        where s.record_id = mine.record_id and s.resource_type <> all(%(directory)s) returning s.batch_id
    )
    update ledger.batch b set staged_rows = staged_rows - n.rows
    from (select batch_id, count(*) as rows from out group by 1) n where b.id = n.batch_id
    """,
    """
    insert into ledger.erased_resource (resource_type, id, erasure_id)
    select d.resource_type, d.id, %(erasure)s from gone d on conflict do nothing
    """,
    """
    delete from fhir.history h using gone d where h.resource_type = d.resource_type and h.id = d.id
    """,
    """
    delete from fhir.contribution c using gone d where c.resource_type = d.resource_type and c.id = d.id
    """,
    """
    delete from fhir.late_fact l using gone d where l.resource_type = d.resource_type and l.id = d.id
    """,
    """
    delete from fhir.said_again s using gone d where s.resource_type = d.resource_type and s.id = d.id
    """,
    """
    delete from ledger.remote m using gone d where m.resource_type = d.resource_type and m.id = d.id
    """,
    """
    delete from fhir.identity
    where resource_type = 'Patient' and (retired_id = any(%(ids)s) or survivor_id = any(%(ids)s))
    """,
    """
    update fhir.resource r set
        version_id = r.version_id + 1, deleted = true, event_time = now(), published_at = now(), digest = %(digest)s,
        resource = jsonb_build_object('resourceType', r.resource_type, 'id', r.id)
    from gone d where r.resource_type = d.resource_type and r.id = d.id
    """,
    """
    update ledger.outbox o set
        wanted = r.version_id, state = 'pending', attempts = 0, next_at = now(), updated_at = now(),
        batches = case when o.state = 'pending' then o.batches else '{}' end, records = '{}'
    from gone d join fhir.resource r on r.resource_type = d.resource_type and r.id = d.id
    where o.resource_type = d.resource_type and o.id = d.id
    """,
    # messages that were to be sent on as they came: nobody waits for them any more
    """
    with out as (
        delete from ledger.outbox o using mine
        where o.resource_type = '!record' and o.id = mine.record_id::text returning o.state, o.batches
    ), less as (
        select unnest(batches) as batch_id, count(*) as n from out where state = 'pending' group by 1
    )
    update ledger.batch b set
        awaiting = b.awaiting - less.n,
        state = case when b.awaiting - less.n <= 0 and b.state = 'stored' then 'published' else b.state end,
        published_at = case when b.awaiting - less.n <= 0 and b.state = 'stored' then now() else b.published_at end
    from less where b.id = less.batch_id
    """,
    "delete from ledger.record_key k using mine where k.record_id = mine.record_id",
    "update ledger.record r set key = null from mine where r.id = mine.record_id",
    "delete from ledger.record_patient where patient = any(%(marks)s)",
    "delete from restricted.unmapped_code u using mine where u.first_record = mine.record_id and u.count = 1",
    """
    insert into ledger.erased_record (record_id, delivery_id, erasure_id)
    select record_id, record_id >> 32, %(erasure)s from mine on conflict (record_id) do nothing
    """,
)  # fmt: skip


def count(connection: Connection, ids: Sequence[str]) -> dict[str, Any]:
    """Return what `gather` found: resources and destinations by name, the rest as numbers."""
    found: dict[str, Any] = {}
    for name, query in COUNTS.items():
        rows = connection.execute(query.encode(), {"ids": list(ids)}).fetchall()
        found[name] = {str(row[0]): int(row[1]) for row in rows} if name in BY_NAME else int(rows[0][0])
    return found


STALE = """
select 'core.' || name from ops.view_definition where problem is not null
union all
select 'mart.' || name from ops.mart_definition where problem is not null order by 1
"""
"""Tables that are not kept at present: what they say of the patient stays until they are built anew."""

BY_NAME = {"resources", "destinations", "sent_on", "left"}


def open_erasure(connection: Connection, actor: str) -> int:
    """Draw an erasure's number."""
    row = connection.execute("insert into ledger.erasure (actor) values (%s) returning id", (actor,)).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0])


def suppress(connection: Connection, erasure: int, ids: Sequence[str], until: datetime | None) -> None:
    """Keep the patient out from now on, or what was said of the patient up to a time."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into ledger.suppressed (digest, erasure_id, until) values (%s, %s, %s)
            on conflict (digest) do update set erasure_id = excluded.erasure_id, until = excluded.until
            """,
            [(spoken.digest(key), erasure, until) for key in ids],
        )


def take_out(connection: Connection, erasure: int, ids: Sequence[str]) -> list[str]:
    """Take out what `gather` found; its records end as discarded, and are to be blanked in landing.

    Returns the analysts' tables that could not be brought up to date.
    """
    _discard(connection)
    params = {
        "erasure": erasure,
        "ids": list(ids),
        "digest": digest("erased"),
        "marks": [spoken.mark(key) for key in ids],
        "directory": sorted(DIRECTORY),
    }
    for statement in TAKE_OUT:
        connection.execute(statement.encode(), params)
    refresh(connection, "gone")
    return [str(row[0]) for row in connection.execute(STALE).fetchall()]


def _discard(connection: Connection) -> None:
    """End the records of whom it is; what ended as a duplicate or filtered stays counted as that."""
    rows = connection.execute(
        """
        select r.id from ledger.record r join mine on mine.record_id = r.id
        where r.state is null or r.state = 'quarantined' order by r.id for update of r
        """
    ).fetchall()
    records = [int(row[0]) for row in rows]
    move(connection, [Move(record, "discarded") for record in records])
    connection.execute(
        """
        update ledger.quarantine set ended_at = now(), ended_as = 'discarded', reason = 'erased'
        where record_id = any(%s) and ended_at is null
        """,
        (records,),
    )


FORGET = (
    "delete from ledger.outbox t using forgotten f where t.resource_type = f.resource_type and t.id = f.id",
    """
    delete from ledger.load_receipt t using forgotten f
    where t.resource_type = f.resource_type and t.resource_id = f.id
    """,
    "delete from fhir.history t using forgotten f where t.resource_type = f.resource_type and t.id = f.id",
    "delete from fhir.resource t using forgotten f where t.resource_type = f.resource_type and t.id = f.id",
    "delete from ledger.erased_resource t using forgotten f where t.resource_type = f.resource_type and t.id = f.id",
)


def forget_confirmed(connection: Connection) -> int:
    """Remove the tombstones that every destination has confirmed, or that none had; return how many."""
    with connection.transaction():
        connection.execute(
            """
            create temp table forgotten on commit drop as
            select e.resource_type, e.id from ledger.erased_resource e where not exists (
                select from ledger.outbox o
                where o.resource_type = e.resource_type and o.id = e.id and o.state <> 'confirmed'
            ) and not exists (
                select from fhir.resource r where r.resource_type = e.resource_type and r.id = e.id and not r.deleted
            )
            """
        )
        for statement in FORGET:
            cursor = connection.execute(statement)
        return cursor.rowcount


def close_done(connection: Connection) -> None:
    """Note which erasures have nothing left to be done."""
    for row in erased.standing(connection):
        if row["ended_at"] is None and not row["deliveries_left"] and not row["confirmations_left"]:
            connection.execute("update ledger.erasure set ended_at = now() where id = %s", (row["erasure"],))
