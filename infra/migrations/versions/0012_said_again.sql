-- What is staged stays text until it is written: most of what partners send again is unchanged and is never read.
alter table staging.resource alter column resource type text using resource::text;
alter table staging.resource alter column slots type text using slots::text;

create table fhir.heard (
    resource_type text not null,
    id text collate "C" not null,
    event_time timestamptz not null,
    record_id bigint not null,
    primary key (id, resource_type)
);
comment on table fhir.heard is 'When a fact was said again in the same words: what happened before that cannot replace it any more';
comment on column fhir.heard.record_id is 'The record that said it last';
comment on column fhir.resource.event_time is 'When that happened at the sender which made this version';
