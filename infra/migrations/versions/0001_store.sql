-- The FHIR store: contributions, current versions, history; and where batches wait to be published.
create schema fhir;
comment on schema fhir is 'The FHIR store: the current version of every resource, its history and what it was folded from';

create table fhir.resource (
    resource_type text not null,
    id text collate "C" not null,
    version_id int not null,
    event_time timestamptz not null,
    record_id bigint not null,
    batch_id bigint not null,
    partner text not null,
    feed text not null,
    fhir_version text not null,
    deleted boolean not null default false,
    published_at timestamptz not null default now(),
    digest bytea not null,
    resource jsonb not null,
    primary key (resource_type, id)
) partition by list (resource_type);
comment on table fhir.resource is 'The current version of every resource';
comment on column fhir.resource.event_time is 'When the newest statement about it happened at the sender';
comment on column fhir.resource.record_id is 'The record that made this version (ledger.record.id)';
comment on column fhir.resource.digest is 'Hash of the resource with its keys sorted: equal means unchanged, digits of decimals included';

create table fhir.history (
    like fhir.resource including defaults,
    superseded_at timestamptz not null default now(),
    primary key (resource_type, id, version_id)
) partition by list (resource_type);
comment on table fhir.history is 'Superseded versions';

do $$
declare kind text;
begin
    foreach kind in array array['Patient', 'Encounter', 'Observation', 'DiagnosticReport', 'ServiceRequest', 'Practitioner',
        'Organization', 'Location', 'MessageHeader', 'Provenance', 'Specimen', 'Condition', 'Procedure', 'DocumentReference'] loop
        execute format('create table fhir.%I partition of fhir.resource for values in (%L)', 'resource_' || lower(kind), kind);
        execute format('create table fhir.%I partition of fhir.history for values in (%L)', 'history_' || lower(kind), kind);
    end loop;
end $$;
create table fhir.resource_other partition of fhir.resource default;
create table fhir.history_other partition of fhir.history default;
create index resource_record on fhir.resource (record_id);
create index history_record on fhir.history (record_id);

create view fhir.version as
    select resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version, deleted, published_at,
           null::timestamptz as superseded_at, resource
    from fhir.resource
    union all
    select resource_type, id, version_id, event_time, record_id, batch_id, partner, feed, fhir_version, deleted, published_at,
           superseded_at, resource
    from fhir.history;
comment on view fhir.version is 'Every version of every resource, the current one with superseded_at null';

create table fhir.contribution (
    resource_type text not null,
    id text collate "C" not null,
    slot text not null,
    record_id bigint not null,
    event_time timestamptz not null,
    said jsonb not null,
    primary key (id, resource_type, slot, record_id)
) partition by hash (id);
do $$ begin
    for part in 0..7 loop
        execute format('create table fhir.contribution_%s partition of fhir.contribution for values with (modulus 8, remainder %s)', part, part);
    end loop;
end $$;
create index contribution_record on fhir.contribution (record_id);
comment on table fhir.contribution is 'What each source field of each record said of a thing that lives on; slot * is a whole statement that came late';

create table fhir.assertion (
    delivery_id bigint not null,
    resource_type text not null,
    id text collate "C" not null,
    primary key (delivery_id, resource_type, id)
);
comment on table fhir.assertion is 'What a corrected delivery says, so that what only its predecessor said can be retracted';

create table fhir.identity (
    resource_type text not null,
    retired_id text collate "C" not null,
    survivor_id text collate "C" not null,
    record_id bigint not null,
    event_time timestamptz not null,
    primary key (resource_type, retired_id, survivor_id)
);
comment on table fhir.identity is 'Which resource has taken the place of which: merges redirect here, nothing is rewritten';

create schema staging;
comment on schema staging is 'Batches between conversion and publication';
create unlogged table staging.resource (
    batch_id bigint not null,
    record_id bigint not null,
    resource_type text not null,
    id text collate "C" not null,
    event_time timestamptz not null,
    fhir_version text not null,
    deleted boolean not null,
    destinations text[] not null,
    digest bytea not null,
    resource jsonb not null,
    slots jsonb
);
create index staging_resource_batch on staging.resource (batch_id);
comment on table staging.resource is 'Resources of batches that are not published yet; unlogged, because a lost batch is processed again';

create schema core;
comment on schema core is 'One table a view: what analysts read';
create schema mart;
comment on schema mart is 'Ready answers over core';
create schema ops;
comment on schema ops is 'The ledger as operators ask it';

create view ops.delivery as
    select d.id, d.feed, d.partner, d.name, d.state, d.duplicate_of, d.corrects, d.seen_at, d.landed_at, d.size,
           encode(d.sha256, 'hex') as sha256,
           coalesce(c.received, 0)::bigint as received,
           case when d.state = 'duplicate' then 0 else coalesce(c.published, 0)::bigint end as published,
           case when d.state = 'duplicate' then 0 else coalesce(c.quarantined, 0)::bigint end as quarantined,
           case when d.state = 'duplicate' then coalesce(c.received, 0)::bigint else coalesce(c.duplicate, 0)::bigint end as duplicate,
           case when d.state = 'duplicate' then 0 else coalesce(c.filtered, 0)::bigint end as filtered,
           case when d.state = 'duplicate' then 0 else coalesce(c.discarded, 0)::bigint end as discarded,
           case when d.state = 'duplicate' then 0 else coalesce(c.in_flight, 0)::bigint end as in_flight
    from ledger.delivery d
    left join lateral (
        select sum(s.received) as received, sum(s.quarantined) as quarantined, sum(s.duplicate) as duplicate,
               sum(s.filtered) as filtered, sum(s.discarded) as discarded,
               sum(s.going) filter (where b.state = 'published') as published,
               sum(s.going) filter (where b.state <> 'published') as in_flight
        from (select *, received - quarantined - duplicate - filtered - discarded as going from ledger.batch_slice) s
        join ledger.batch b on b.id = s.batch_id
        where s.delivery_id = coalesce(d.duplicate_of, d.id)
    ) c on true;
comment on view ops.delivery is
    'Every delivery with the counts of the invariant: received = published + quarantined + duplicate + filtered + discarded + in_flight';

create view ops.invariant as
    with said as (
        select delivery_id, sum(received) as received, sum(quarantined) as quarantined, sum(duplicate) as duplicate,
               sum(filtered) as filtered, sum(discarded) as discarded
        from ledger.batch_slice group by delivery_id
    ), counted as (
        select id >> 32 as delivery_id, count(*) as received, count(*) filter (where state = 'quarantined') as quarantined,
               count(*) filter (where state = 'duplicate') as duplicate, count(*) filter (where state = 'filtered') as filtered,
               count(*) filter (where state = 'discarded') as discarded
        from ledger.record group by id >> 32
    )
    select coalesce(said.delivery_id, counted.delivery_id) as delivery_id
    from said full join counted on said.delivery_id = counted.delivery_id
    where (said.received, said.quarantined, said.duplicate, said.filtered, said.discarded)
        is distinct from (counted.received, counted.quarantined, counted.duplicate, counted.filtered, counted.discarded);
comment on view ops.invariant is 'Deliveries whose counts and records disagree: empty while the ledger is sound';
