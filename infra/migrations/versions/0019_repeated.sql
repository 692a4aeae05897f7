-- Who else says a fact in the same words, and which deliveries are full.
create table fhir.said_again (
    resource_type text not null,
    id text collate "C" not null,
    record_id bigint not null,
    event_time timestamptz not null,
    deleted boolean not null default false,
    digest bytea not null,
    primary key (id, resource_type, record_id)
);
create index said_again_record on fhir.said_again (record_id);
insert into fhir.said_again (resource_type, id, record_id, event_time, deleted, digest)
select h.resource_type, h.id, h.record_id, h.event_time, r.deleted, r.digest
from fhir.heard h join fhir.resource r on r.resource_type = h.resource_type and r.id = h.id;
drop table fhir.heard;
drop table fhir.assertion;
comment on table fhir.said_again is 'Records that say a result or document in the very words of a version that another record made: it stands while one of them does, and nothing older takes its place';
comment on column fhir.said_again.resource_type is 'FHIR resource type';
comment on column fhir.said_again.id is 'Id of the resource';
comment on column fhir.said_again.record_id is 'The record that said it (ledger.record.id): delivery id * 2^32 + ordinal';
comment on column fhir.said_again.event_time is 'When it happened at the sender';
comment on column fhir.said_again.deleted is 'Whether it said that the resource is withdrawn';
comment on column fhir.said_again.digest is 'Hash of the content with its keys sorted';

alter table ledger.delivery add column is_full boolean not null default false;
comment on column ledger.delivery.is_full is 'Whether it says everything: what it does not hold is retracted';
create index delivery_full on ledger.delivery (feed, id) where is_full and retracted_at is null;
