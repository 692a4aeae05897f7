"""Publish: one transaction that folds a batch into the store, its tables, the ledger and the outbox.

Facts are replaced whole, newest event time first; a thing that lives on is folded from the newest contribution of
every slot. Both by (event time, landing order), so the state does not depend on the order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from mappings.engine.json import digest, dumps, loads
from mappings.engine.slots import assemble
from tasks.errors import Permanent
from tasks.ledger import claims
from tasks.ledger.db import Connection
from tasks.model import DELETED, DIRECTORY

Refresh = Callable[[Connection, str], None]
"""Brings the analysts' tables up to date for the (resource_type, id) of a relation, inside the transaction."""

WHOLE = "*"
"""The slot of a statement about the whole resource."""


@dataclass(frozen=True, slots=True)
class Published:
    """Counts of one publication."""

    batch_id: int
    created: int
    changed: int
    unchanged: int
    queued: int


def publish(connection: Connection, batch_id: int, token: int, refresh: Refresh, run_id: str = "") -> Published:
    """Publish a staged batch; returns at once with zeros where it is published already.

    Raises `LeaseLost` where another worker has taken the feed over, `Permanent` where the staged rows are gone
    (Postgres was restarted hard: staging is unlogged); the next run stages them again first.
    """
    with connection.transaction():
        batch = connection.execute(
            "select feed, partner, state, staged_rows from ledger.batch where id = %s for update", (batch_id,)
        ).fetchone()
        if batch is None or batch[2] != "staged":
            return Published(batch_id, 0, 0, 0, 0)
        claims.check(connection, f"feed:{batch[0]}", token)
        staged = connection.execute("select count(*) from staging.resource where batch_id = %s", (batch_id,)).fetchone()
        if staged is None or staged[0] != batch[3]:
            raise Permanent(
                f"batch {batch_id}: its staged rows are gone in a crash; run again, it is staged anew first"
            )
        # one publication at a time: two that fold the same resource would each miss what the other brings
        connection.execute("select pg_advisory_xact_lock(hashtextextended('sluice:publish', 0))")
        connection.execute("analyze staging.resource (batch_id, resource_type, id, record_id)")
        connection.execute("update ledger.batch set published_by = %s where id = %s", (run_id, batch_id))
        _contribute(connection, batch_id)
        _incoming(connection, batch_id)
        _late_facts(connection)
        published = settle(connection, batch_id, batch[0], batch[1], refresh)
        _assert_corrections(connection, batch_id)
        connection.execute("delete from staging.resource where batch_id = %s", (batch_id,))
    return published


def settle(connection: Connection, batch_id: int, feed: str, partner: str, refresh: Refresh) -> Published:
    """Take what the table `incoming` says into store, tables and outbox, and close the batch."""
    counts = _write(connection, batch_id, feed, partner)
    refresh(connection, "changed")
    queued = _enqueue(connection, batch_id)
    _close(connection, batch_id, queued)
    return Published(batch_id, *counts, queued)


def create_incoming(connection: Connection) -> None:
    """Make the temporary table of what each touched resource should now be."""
    connection.execute(
        """
        create temp table incoming (
            resource_type text, id text collate "C", event_time timestamptz, record_id bigint, fhir_version text,
            deleted boolean, digest bytea, resource jsonb, folded boolean
        ) on commit drop
        """
    )


def fold(connection: Connection, touched: str, params: tuple[Any, ...]) -> None:
    """Put into `incoming` every living thing that the query `touched` (resource_type, id, fhir_version) names."""
    folded = list(_fold(connection, touched, params))
    with connection.cursor().copy("copy incoming from stdin") as copy:
        for resource_type, resource_id, event_time, record, fhir_version, deleted, resource in folded:
            row = (resource_type, resource_id, event_time, record, fhir_version, deleted, digest(resource))
            copy.write_row((*row, dumps(resource).decode(), True))
    connection.execute("analyze incoming (resource_type, id)")


def _contribute(connection: Connection, batch_id: int) -> None:
    connection.execute(
        """
        insert into fhir.contribution as c (resource_type, id, slot, record_id, event_time, said)
        select s.resource_type, s.id, said.key, s.record_id, s.event_time, said.value
        from staging.resource s, jsonb_each(s.slots) said
        where s.batch_id = %s and s.slots is not null
        on conflict (id, resource_type, slot, record_id) do update
            set event_time = excluded.event_time, said = excluded.said
            where (c.event_time, c.said) is distinct from (excluded.event_time, excluded.said)
        """,
        (batch_id,),
    )
    # of a directory's entry only the newest word in each slot is ever needed: it is not retracted
    connection.execute(
        """
        with named as (
            select distinct resource_type, id from staging.resource
            where batch_id = %s and slots is not null and resource_type = any(%s)
        ), newest as (
            select distinct on (c.resource_type, c.id, c.slot) c.resource_type, c.id, c.slot, c.record_id
            from fhir.contribution c join named n on n.resource_type = c.resource_type and n.id = c.id
            order by c.resource_type, c.id, c.slot, c.event_time desc, c.record_id desc
        )
        delete from fhir.contribution c using newest n
        where c.resource_type = n.resource_type and c.id = n.id and c.slot = n.slot and c.record_id <> n.record_id
        """,
        (batch_id, sorted(DIRECTORY)),
    )


def _incoming(connection: Connection, batch_id: int) -> None:
    """Fill `incoming` from a staged batch: the newest of each fact, the fold of each living thing."""
    create_incoming(connection)
    connection.execute(
        """
        insert into incoming
        select distinct on (resource_type, id)
               resource_type, id, event_time, record_id, fhir_version, deleted, digest, resource, false as folded
        from staging.resource where batch_id = %s and slots is null
        order by resource_type, id, event_time desc, record_id desc
        """,
        (batch_id,),
    )
    touched = """
        select resource_type, id, max(fhir_version) as fhir_version
        from staging.resource where batch_id = %s and slots is not null group by resource_type, id
    """
    fold(connection, touched, (batch_id,))


def _fold(connection: Connection, touched: str, params: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield (type, id, event time, record, FHIR version, deleted, resource) of every living thing that was touched."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            with touched as ({touched})
            select distinct on (c.resource_type, c.id, c.slot)
                   c.resource_type, c.id, c.event_time, c.record_id, t.fhir_version, c.slot, c.said::text
            from fhir.contribution c join touched t on t.resource_type = c.resource_type and t.id = c.id
            where c.slot <> '{WHOLE}'
            order by c.resource_type, c.id, c.slot, c.event_time desc, c.record_id desc
            """.encode(),
            params,
        )
        for (resource_type, resource_id), rows in groupby(cursor, key=lambda row: (row[0], row[1])):
            said = list(rows)
            newest = max((row[2], row[3]) for row in said)
            deleted = any(row[5] == DELETED and (row[2], row[3]) == newest for row in said)
            slots = {row[5]: [(path, value) for path, value in loads(row[6])] for row in said if row[5] != DELETED}
            resource = assemble(resource_type, resource_id, slots)
            yield (resource_type, resource_id, *newest, said[0][4], deleted, resource)


def _late_facts(connection: Connection) -> None:
    """Keep facts that come after a newer one has been published: nothing is lost, and the newer one stands."""
    connection.execute(
        """
        with late as (
            delete from incoming i using fhir.resource r
            where r.resource_type = i.resource_type and r.id = i.id and not i.folded
              and (i.event_time, i.record_id) < (r.event_time, r.record_id) and i.digest <> r.digest
            returning i.*
        )
        insert into fhir.contribution (resource_type, id, slot, record_id, event_time, said)
        select resource_type, id, %s, record_id, event_time, resource from late
        on conflict do nothing
        """,
        (WHOLE,),
    )


def _write(connection: Connection, batch_id: int, feed: str, partner: str) -> tuple[int, int, int]:
    """Write what changed; return how many were created, changed, unchanged."""
    connection.execute(
        """
        create temp table changed on commit drop as
        select i.*, r.version_id as old_version
        from incoming i left join fhir.resource r on r.resource_type = i.resource_type and r.id = i.id
        where r.id is null or r.digest <> i.digest or r.deleted <> i.deleted
        """
    )
    connection.execute("analyze changed (resource_type, id)")
    # the newest statement said the same again: it counts as heard, so that an older one that comes later cannot win
    connection.execute(
        """
        update fhir.resource r set event_time = i.event_time from incoming i
        where r.resource_type = i.resource_type and r.id = i.id and i.event_time > r.event_time
          and not exists (select from changed c where c.resource_type = i.resource_type and c.id = i.id)
        """
    )
    connection.execute(
        """
        insert into fhir.history
        select r.* from fhir.resource r join changed c on c.resource_type = r.resource_type and c.id = r.id
        """
    )
    connection.execute(
        """
        insert into fhir.resource
            (resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version, deleted,
             digest, resource)
        select resource_type, id, coalesce(old_version, 0) + 1, event_time, record_id, %(batch)s, %(partner)s, %(feed)s,
               fhir_version, deleted, digest, resource
        from changed
        on conflict (resource_type, id) do update set
            version_id = excluded.version_id, event_time = excluded.event_time, record_id = excluded.record_id,
            batch_id = excluded.batch_id, partner = excluded.partner, feed = excluded.feed,
            fhir_version = excluded.fhir_version, deleted = excluded.deleted, digest = excluded.digest,
            resource = excluded.resource, published_at = now()
        """,
        {"batch": batch_id, "partner": partner, "feed": feed},
    )
    row = connection.execute(
        """
        select count(*) filter (where old_version is null), count(*) filter (where old_version is not null),
               (select count(*) from incoming) - count(*)
        from changed
        """
    ).fetchone()
    assert row is not None  # noqa: S101
    return int(row[0]), int(row[1]), int(row[2])


def _enqueue(connection: Connection, batch_id: int) -> int:
    """Put what changed into the outbox of every destination that a record is routed to or that has it already."""
    cursor = connection.execute(
        """
        with wished as (
            select distinct destination.name as destination, s.resource_type, s.id
            from staging.resource s cross join lateral unnest(s.destinations) destination(name)
            where s.batch_id = %(batch)s
            union
            select o.destination, c.resource_type, c.id
            from changed c join ledger.outbox o on o.resource_type = c.resource_type and o.id = c.id
        )
        insert into ledger.outbox as o (destination, resource_type, id, wanted, state, batches)
        select w.destination, w.resource_type, w.id, r.version_id, 'pending', array[%(batch)s::bigint]
        from wished w
        join fhir.resource r on r.resource_type = w.resource_type and r.id = w.id
        left join ledger.outbox have
            on have.destination = w.destination and have.resource_type = w.resource_type and have.id = w.id
        where have.id is null or have.wanted < r.version_id or have.state in ('pending', 'refused')
        order by 1, 2, 3
        on conflict (destination, resource_type, id) do update set
            wanted = excluded.wanted, state = 'pending', next_at = now(), attempts = 0, updated_at = now(),
            batches = case when o.state = 'pending' then o.batches || excluded.batches else excluded.batches end
        """,
        {"batch": batch_id},
    )
    return cursor.rowcount


def _close(connection: Connection, batch_id: int, queued: int) -> None:
    """The store has the batch; it is published when no destination waits for anything of it."""
    connection.execute(
        """
        update ledger.batch set
            state = case when %(queued)s = 0 then 'published' else 'stored' end, awaiting = %(queued)s,
            stored_at = now(), published_at = case when %(queued)s = 0 then now() end
        where id = %(batch)s
        """,
        {"batch": batch_id, "queued": queued},
    )


def _assert_corrections(connection: Connection, batch_id: int) -> None:
    """Remember what corrected deliveries say, until what only their predecessors said is retracted."""
    connection.execute(
        """
        insert into fhir.assertion (delivery_id, resource_type, id)
        select distinct s.record_id >> 32, s.resource_type, s.id
        from staging.resource s join ledger.delivery d on d.id = s.record_id >> 32
        where s.batch_id = %s and d.corrects is not null
        on conflict do nothing
        """,
        (batch_id,),
    )
