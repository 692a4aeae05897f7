"""The outbox: what each destination should have and has confirmed; a batch ends with the last of its rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mappings.engine.json import loads
from tasks.ledger.db import Connection
from tasks.model import Resource


@dataclass(frozen=True, slots=True)
class Pending:
    """A version that a destination does not have yet; `resource` is None where it is deleted.

    - `said`: the version is the destination's own word, read from there.
    """

    resource_type: str
    id: str
    version: int
    resource: Resource | None
    said: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said of one version: `sent`, `unchanged`, `refused` or `retry`, with the transport's code."""

    resource_type: str
    id: str
    version: int
    status: str
    code: str
    finding: str | None = None
    retry_after: float | None = None
    remote_id: str | None = None
    remote_version: str | None = None


def pending(connection: Connection, destination: str, limit: int) -> list[Pending]:
    """Return what is due for a destination, the merged newest version of each, oldest wish first."""
    rows = connection.execute(
        """
        with turn as materialized (
            select resource_type, id, batches[1] as batch from ledger.outbox
            where destination = %s and state = 'pending' and next_at <= now()
            order by batches[1], resource_type, id limit %s
        )
        select t.resource_type, t.id, r.version_id, case when r.deleted then null else r.resource::text end,
               m.record_id is not null
        from turn t join fhir.resource r on r.resource_type = t.resource_type and r.id = t.id
        left join ledger.remote m
            on m.destination = %s and m.resource_type = r.resource_type and m.id = r.id and m.record_id = r.record_id
        order by t.batch, t.resource_type, t.id
        """,
        (destination, limit, destination),
    ).fetchall()
    return [Pending(kind, key, version, text and loads(text), said) for kind, key, version, text, said in rows]


def backlog(connection: Connection, destination: str) -> int:
    """Return how many resources a destination does not have yet."""
    row = connection.execute(
        "select count(*) from ledger.outbox where destination = %s and state = 'pending'", (destination,)
    ).fetchone()
    return int(row[0]) if row else 0


def settle(connection: Connection, destination: str, answers: Iterable[Answer]) -> None:
    """Write down a destination's answers, and end the batches that waited for nothing else.

    A version that grew while its predecessor was sent stays pending. A refused resource's record is quarantined.
    """
    rows = [
        (a.resource_type, a.id, a.version, a.status, a.code, a.finding, a.retry_after, a.remote_id, a.remote_version)
        for a in answers
    ]
    with connection.transaction():
        connection.execute(
            """
            create temp table answer (
                resource_type text, id text collate "C", version int, status text, code text, finding text,
                retry_after float, remote_id text, remote_version text
            ) on commit drop
            """
        )
        with connection.cursor().copy("copy answer from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        for statement in SETTLE:
            connection.execute(statement, {"destination": destination})


SETTLE = (
    """
    insert into ledger.load_receipt
        (destination, resource_type, resource_id, version_id, status, code, finding, remote_version)
    select %(destination)s, resource_type, id, version, status, code, finding, remote_version from answer
    """,
    """
    update ledger.outbox o set
        attempts = o.attempts + 1, code = a.code, updated_at = now(),
        next_at = now() + make_interval(secs => coalesce(a.retry_after, least(300, 2 ^ least(o.attempts, 8))))
    from answer a
    where o.destination = %(destination)s and o.resource_type = a.resource_type and o.id = a.id and a.status = 'retry'
    """,
    # the batches that waited are kept aside: the update below empties the list
    """
    create temp table ended on commit drop as
    select o.resource_type, o.id, o.batches, a.status, a.version, a.code, a.finding
    from ledger.outbox o join answer a on a.resource_type = o.resource_type and a.id = o.id
    where o.destination = %(destination)s and o.state = 'pending' and a.status <> 'retry' and o.wanted <= a.version
    order by o.resource_type, o.id for update of o
    """,
    """
    update ledger.outbox o set
        state = case when a.status = 'refused' then 'refused' else 'confirmed' end,
        confirmed = case when a.status = 'refused' then o.confirmed else a.version end,
        code = a.code, remote_id = coalesce(a.remote_id, o.remote_id),
        remote_version = coalesce(a.remote_version, o.remote_version), batches = '{}', updated_at = now()
    from answer a join ended e on e.resource_type = a.resource_type and e.id = a.id
    where o.destination = %(destination)s and o.resource_type = a.resource_type and o.id = a.id
    """,
    """
    with refused as (
        select distinct on (r.record_id) r.record_id, coalesce(e.finding, 'refused') as code, e.resource_type
        from ended e join fhir.resource r on r.resource_type = e.resource_type and r.id = e.id
        where e.status = 'refused'
    ), marked as (
        update ledger.record rec set state = 'quarantined' from refused
        where rec.id = refused.record_id and rec.state is null returning rec.id, rec.batch_id
    ), counted as (
        update ledger.batch_slice s set quarantined = s.quarantined + m.n
        from (select batch_id, id >> 32 as delivery_id, count(*) as n from marked group by 1, 2) m
        where s.batch_id = m.batch_id and s.delivery_id = m.delivery_id
    )
    insert into ledger.quarantine
        (record_id, delivery_id, batch_id, feed, stage, code, location, findings, mapping_version)
    select m.id, m.id >> 32, m.batch_id, b.feed, 'deliver', 'destination-refused', r.resource_type,
           jsonb_build_array(jsonb_build_object('code', r.code, 'location', r.resource_type, 'severity', 'error')),
           b.mapping_version
    from marked m join refused r on r.record_id = m.id join ledger.batch b on b.id = m.batch_id
    on conflict (record_id) do update set
        batch_id = excluded.batch_id, stage = excluded.stage, code = excluded.code, location = excluded.location,
        findings = excluded.findings, mapping_version = excluded.mapping_version, quarantined_at = now(),
        ended_at = null, ended_as = null, reason = null
    """,
    """
    with less as (select unnest(batches) as batch_id, count(*) as n from ended group by 1)
    update ledger.batch b set
        awaiting = b.awaiting - less.n,
        state = case when b.awaiting - less.n <= 0 and b.state = 'stored' then 'published' else b.state end,
        published_at = case when b.awaiting - less.n <= 0 and b.state = 'stored' then now() else b.published_at end
    from less where b.id = less.batch_id
    """,
)
