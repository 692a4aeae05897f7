-- Erasure: what was erased stays away, and what of it still lies somewhere is known until it does not.
create table ledger.erasure (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    counts jsonb not null default '{}',
    ended_at timestamptz
);
comment on table ledger.erasure is 'Every erasure of a patient, without who it was; the reason stands in the audit trail';
comment on column ledger.erasure.ended_at is 'When landing was shredded and every destination had confirmed';

create table ledger.suppressed (
    digest bytea primary key,
    erasure_id bigint not null references ledger.erasure,
    until timestamptz
);
comment on table ledger.suppressed is 'sha256 of the ids of erased patients: what speaks of them is filtered when it comes again';
comment on column ledger.suppressed.until is 'Statements after that time come through; null where none does';

create table ledger.erased_record (
    record_id bigint primary key,
    delivery_id bigint not null,
    erasure_id bigint not null references ledger.erasure,
    at timestamptz not null default clock_timestamp(),
    start bigint,
    next jsonb
);
create index erased_record_delivery on ledger.erased_record (delivery_id, record_id);
comment on table ledger.erased_record is 'Records whose bytes in landing are, or are to be, blank';
comment on column ledger.erased_record.start is 'Where its bytes began; null until landing was looked at';
comment on column ledger.erased_record.next is 'The position after it, from which reading goes on';

create table ledger.shredded (
    delivery_id bigint primary key,
    at timestamptz not null
);
comment on table ledger.shredded is 'Deliveries that were written anew without erased records; at is before reading which those were';

create table ledger.erased_resource (
    resource_type text not null,
    id text collate "C" not null,
    erasure_id bigint not null references ledger.erasure,
    primary key (resource_type, id)
);
comment on table ledger.erased_resource is 'What destinations have not all confirmed as deleted yet; then it goes from here too';

-- The trail is append-only for everybody: in sessions that switch triggers off for replication, and for its owner.
alter table ledger.audit enable always trigger append_only;
alter table ledger.audit enable always trigger append_only_truncate;
do $$ begin
    execute format('revoke update, delete, truncate on ledger.audit from %I', current_user);
end $$;

create index batch_mapping on ledger.batch (mapping_version, id);

create table ledger.deployed (
    feed text primary key,
    at timestamptz not null default now(),
    actor text not null,
    digest text not null,
    feed_file bytea not null,
    maps bytea not null
);
comment on table ledger.deployed is 'What was deployed last of each feed: its file and its maps, to compare with';
comment on column ledger.deployed.maps is 'The mapping files as a tar.xz; data alone, never code';
