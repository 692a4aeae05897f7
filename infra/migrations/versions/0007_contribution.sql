-- A contribution is what one record says of one thing, all its fields in one row, and the fold reads only those that
-- still count: its cost does not grow with the messages of a patient.
alter table fhir.contribution rename to contribution_by_slot;
alter index fhir.contribution_pkey rename to contribution_by_slot_pkey;
alter index fhir.contribution_record rename to contribution_by_slot_record;
do $$ begin
    for part in 0..7 loop
        execute format('alter table fhir.contribution_%s rename to contribution_by_slot_%s', part, part);
    end loop;
end $$;

create table fhir.contribution (
    resource_type text not null,
    id text collate "C" not null,
    record_id bigint not null,
    event_time timestamptz not null,
    live boolean not null default true,
    said jsonb not null,
    constraint contribution_key primary key (id, resource_type, record_id)
) partition by hash (id);
do $$ begin
    for part in 0..7 loop
        execute format('create table fhir.contribution_of_%s partition of fhir.contribution for values with (modulus 8, remainder %s)', part, part);
    end loop;
end $$;
create index contribution_by_record on fhir.contribution (record_id);
create index contribution_live on fhir.contribution (id, resource_type) where live;
comment on table fhir.contribution is 'What each record said of a thing that lives on, by source field; the current resource is folded from those that are live';
comment on column fhir.contribution.live is 'Whether it is the newest in one of its fields; false only where newer records say everything that it says';
comment on column fhir.contribution.said is 'By source field, paths and values: absent says nothing, an empty list clears';

create table fhir.late_fact (
    resource_type text not null,
    id text collate "C" not null,
    record_id bigint not null,
    event_time timestamptz not null,
    deleted boolean not null default false,
    digest bytea not null,
    resource jsonb not null,
    primary key (id, resource_type, record_id)
);
create index late_fact_record on fhir.late_fact (record_id);
comment on table fhir.late_fact is 'Results and documents that came after a newer version was published: they stand aside until that one is retracted';

insert into fhir.contribution (resource_type, id, record_id, event_time, said)
select resource_type, id, record_id, max(event_time), jsonb_object_agg(slot, said)
from fhir.contribution_by_slot where slot <> '*' group by resource_type, id, record_id;
insert into fhir.late_fact (resource_type, id, record_id, event_time, digest, resource)
select resource_type, id, record_id, event_time, ''::bytea, said from fhir.contribution_by_slot where slot = '*';
drop table fhir.contribution_by_slot;
