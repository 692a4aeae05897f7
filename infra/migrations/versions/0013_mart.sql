-- What the marts stand on: one form for names, days at the sender, units and what they are brought to.
create function mart.normalised(text) returns text language sql immutable parallel safe as $$
    select nullif(trim(regexp_replace(regexp_replace(
        replace(replace(replace(translate(lower(normalize($1, NFD)), 'øØłŁđĐıðÐħĦŧŦ', 'oollddiddhhtt'), 'ß', 'ss'), 'æ', 'ae'), 'Æ', 'ae'),
        '[\u0300-\u036f''’]', '', 'g'), '[^[:alnum:]\u0080-\uffff]+', ' ', 'g')), '')
$$;
comment on function mart.normalised is 'A name in lower case without accents, apostrophes and punctuation, words one space apart';

create function mart.local_day(text, timestamptz) returns date language sql immutable parallel safe as $$
    select case when $1 ~ '^\d{4}-\d\d-\d\d' then left($1, 10)::date else ($2 at time zone 'UTC')::date end
$$;
comment on function mart.local_day is 'The day at the sender of a time as it was sent; of one without a day the first moment''s day in UTC';

create table mart.unit (
    unit text primary key,
    unit_normalised text,
    factor numeric not null,
    addend numeric not null,
    first_seen_at timestamptz not null default now()
);
comment on table mart.unit is 'Every unit that a result had, and how its numbers are brought to the unit of their kind: value * factor + addend';
comment on column mart.unit.unit is 'UCUM unit as sent';
comment on column mart.unit.unit_normalised is 'UCUM unit of this kind of quantity; null where the sent one is not a unit of UCUM';
comment on column mart.unit.factor is 'What a number in the sent unit is multiplied with';
comment on column mart.unit.addend is 'What is added then; not 0 for temperatures alone';
comment on column mart.unit.first_seen_at is 'When the first result with it was published';

create table ops.mart_definition (
    name text primary key,
    hash text,
    resource_types text[] not null,
    refresh_sql text[] not null,
    built_at timestamptz not null,
    problem text
);
comment on table ops.mart_definition is 'Which definition each relation of mart was built from, and how it is kept';
comment on column ops.mart_definition.name is 'Name in the schema mart';
comment on column ops.mart_definition.hash is 'Hash of the definition that it shows; null where it must be built anew';
comment on column ops.mart_definition.resource_types is 'Types of resources for whose changes it is kept; empty for views';
comment on column ops.mart_definition.refresh_sql is 'Statements that keep it for what changed';
comment on column ops.mart_definition.built_at is 'When it was built';
comment on column ops.mart_definition.problem is 'Why it could not be kept; it shows the warehouse as it was then';

create view ops.batch as
    select b.id as batch_id, b.feed, b.partner, b.state, b.created_at, b.stored_at, b.published_at, b.awaiting, b.staged_rows,
           b.mapping_version, b.run_id, b.published_by, (b.verdict ->> 'passed')::boolean as passed,
           b.verdict -> 'released' ->> 'by' as released_by, b.verdict -> 'rejected' ->> 'by' as rejected_by
    from ledger.batch b;
comment on view ops.batch is 'Batches: what is gated and published together';

create view ops.finding as
    select f.batch_id, b.feed, b.partner, b.created_at as at, f.stage, f.code, f.location, f.severity, f.count,
           f.first_record >> 32 as delivery_id, f.first_record & 4294967295 as first_ordinal
    from ledger.finding f join ledger.batch b on b.id = f.batch_id;
comment on view ops.finding is 'What was wrong or odd, counted by batch, code and location; no value of a record';

create view ops.quarantine as
    select q.record_id, q.delivery_id, q.record_id & 4294967295 as ordinal, r.location as place, d.name as delivery, q.batch_id,
           q.feed, q.stage, q.code, q.location, q.owner, q.quarantined_at, q.ended_at, q.ended_as,
           coalesce(q.ended_at, now()) - q.quarantined_at as waited
    from ledger.quarantine q join ledger.delivery d on d.id = q.delivery_id left join ledger.record r on r.id = q.record_id;
comment on view ops.quarantine is 'Records that stopped: where, why, whose they are and for how long';

create view ops.lateness as
    select e.feed, split_part(e.feed, '.', 1) as partner, (e.facts ->> 'day')::date as day, e.kind,
           (e.facts ->> 'due')::timestamptz as due_at, (e.facts ->> 'came')::timestamptz as came_at,
           (e.facts ->> 'came')::timestamptz - (e.facts ->> 'due')::timestamptz as late_by, e.at as told_at
    from ledger.event e where e.kind in ('late', 'missing', 'too-small', 'too-large');
comment on view ops.lateness is 'What did not come as the feed expects it: too late, not at all, too little, too much';

create view ops.lineage as
    select v.resource_type, v.id as resource_id, v.version_id, v.superseded_at, v.deleted, v.event_time, v.published_at,
           v.record_id, v.record_id >> 32 as delivery_id, v.record_id & 4294967295 as ordinal, r.location as place,
           d.name as delivery, d.feed, d.partner, d.landed_at, d.object, encode(d.sha256, 'hex') as sha256, v.batch_id,
           b.mapping_version, b.run_id, b.published_by
    from fhir.version v
    left join ledger.record r on r.id = v.record_id
    left join ledger.delivery d on d.id = v.record_id >> 32
    left join ledger.batch b on b.id = v.batch_id;
comment on view ops.lineage is 'Every version of every resource with the record, delivery, map and run that it came from; no content';

create view ops.expectation as
    select b.id as batch_id, b.feed, b.partner, b.created_at as checked_at, said ->> 'table' as relation,
           said ->> 'expectation' as expectation, said ->> 'place' as place, said ->> 'severity' as severity,
           (said ->> 'held')::boolean as held_true
    from ledger.batch b cross join lateral jsonb_array_elements(b.verdict -> 'results') said;
comment on view ops.expectation is 'What each check of the gate said of each batch: whether it held, never a value';

create view ops.expectation_trend as
    select feed, relation, expectation, place, severity, (checked_at at time zone 'UTC')::date as day, count(*) as batches,
           count(*) filter (where held_true) as held_true,
           round(100.0 * count(*) filter (where held_true) / count(*), 1) as percent
    from ops.expectation group by 1, 2, 3, 4, 5, 6;
comment on view ops.expectation_trend is 'How often each check held, by feed and day (UTC)';
