-- Which record speaks of which patients: an erasure finds by it what would else take reading the whole store.
create table ledger.record_patient (
    patient bigint not null,
    record_id bigint not null,
    primary key (patient, record_id)
);
-- records come in the order of their numbers: a summary of ranges finds a delivery's rows at next to no cost
create index record_patient_record on ledger.record_patient using brin (record_id) with (pages_per_range = 16);
comment on table ledger.record_patient is 'Which record speaks of which patients, erased ones excepted';
comment on column ledger.record_patient.patient is 'The first eight bytes of the sha256 of Patient/ID, as a number; 0 where the record speaks of nobody';
comment on column ledger.record_patient.record_id is 'The record (ledger.record.id): delivery id * 2^32 + ordinal';

alter table staging.resource add column patients bigint[] not null default '{}';
comment on column staging.resource.patients is 'The patients that it is or refers to, as ledger.record_patient numbers them';

create function pg_temp.mark(patient text) returns bigint immutable language sql as
    $$ select ('x' || left(encode(sha256(convert_to(patient, 'UTF8')), 'hex'), 16))::bit(64)::bigint $$;
create function pg_temp.marks(kind text, id text, said text) returns setof bigint immutable language sql as $$
    select pg_temp.mark('Patient/' || id) where kind = 'Patient'
    union select pg_temp.mark(name[1]) from regexp_matches(said, '"(Patient/[A-Za-z0-9.-]{1,64})["/]', 'g') name
$$;
insert into ledger.record_patient (patient, record_id)
select distinct patient, record_id from (
    select record_id, pg_temp.marks(resource_type, id, resource::text) as patient from fhir.resource
    union all select record_id, pg_temp.marks(resource_type, id, resource::text) from fhir.history
    union all select record_id, pg_temp.marks(resource_type, id, resource::text) from fhir.late_fact
    union all select record_id, pg_temp.marks(resource_type, id, said::text) from fhir.contribution
    union all select record_id, pg_temp.marks(resource_type, id, resource) from staging.resource
    union all select a.record_id, pg_temp.marks(r.resource_type, r.id, r.resource::text)
    from fhir.said_again a join fhir.resource r on r.resource_type = a.resource_type and r.id = a.id
) said where patient is not null on conflict do nothing;
