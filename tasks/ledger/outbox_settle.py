"""The statements that write down a destination's answers: the relation `answer`, the parameter `destination`."""

from __future__ import annotations

SETTLE = (
    """
    insert into ledger.load_receipt
        (destination, resource_type, resource_id, version_id, status, code, finding, remote_version)
    select %(destination)s, resource_type, id, version, status, code, finding, remote_version from answer
    where code <> 'waits'
    """,
    """
    update ledger.outbox o set
        attempts = o.attempts + case when a.code = 'waits' then 0 else 1 end, code = a.code, updated_at = now(),
        next_at = now() + make_interval(secs => coalesce(a.retry_after, least(300, 2 ^ least(o.attempts, 8))))
    from answer a
    where o.destination = %(destination)s and o.resource_type = a.resource_type and o.id = a.id and a.status = 'retry'
    """,
    # the batches that waited are kept aside: the update below empties the list
    """
    create temp table ended on commit drop as
    select o.resource_type, o.id, o.batches, o.records, a.status, a.version, a.code, a.finding
    from ledger.outbox o join answer a on a.resource_type = o.resource_type and a.id = o.id
    where o.destination = %(destination)s and o.state = 'pending' and a.status <> 'retry' and o.wanted <= a.version
    order by o.resource_type, o.id for update of o
    """,
    """
    update ledger.outbox o set
        state = case when a.status = 'refused' then 'refused' else 'confirmed' end,
        confirmed = case when a.status = 'refused' then o.confirmed else a.version end,
        code = a.code, remote_id = coalesce(a.remote_id, o.remote_id),
        remote_version = coalesce(a.remote_version, o.remote_version), batches = '{}', updated_at = now(),
        records = case when a.status = 'refused' then o.records else '{}' end
    from answer a join ended e on e.resource_type = a.resource_type and e.id = a.id
    where o.destination = %(destination)s and o.resource_type = a.resource_type and o.id = a.id
    """,
    """
    with refused as (
        select distinct on (said.record_id) said.record_id, coalesce(e.finding, 'refused') as code,
               case when e.resource_type = '!record' then 'record' else e.resource_type end as resource_type
        from ended e left join fhir.resource r on r.resource_type = e.resource_type and r.id = e.id
        cross join lateral unnest(coalesce(nullif(e.records, '{}'), array[r.record_id])) said(record_id)
        where e.status = 'refused' order by said.record_id, e.code = 'dependency'
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
