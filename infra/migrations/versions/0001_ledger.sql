-- The ledger: where every delivery, record and version is. Prefect may forget, these tables may not.
create schema ledger;
comment on schema ledger is 'Where every delivery, record and destination stands; written by Sluice alone';

create sequence ledger.token;
comment on sequence ledger.token is 'Fencing tokens: every claim draws a higher one, and a transaction with an older one is refused';

create table ledger.claim (
    name text primary key,
    token bigint not null,
    run_id text,
    lease_until timestamptz not null
);
comment on table ledger.claim is 'Who may work on a feed (feed:…) or a destination (destination:…) now, and until when';

create table ledger.delivery (
    id bigint generated always as identity primary key check (id < 2147483648),
    feed text not null,
    partner text not null,
    format text not null,
    name text not null,
    version text not null,
    offer jsonb not null default '{}',
    state text not null default 'landing'
        check (state in ('landing', 'landed', 'read', 'duplicate', 'refused')),
    object text,
    size bigint,
    sha256 bytea,
    duplicate_of bigint references ledger.delivery,
    corrects bigint references ledger.delivery,
    position jsonb,
    run_id text,
    seen_at timestamptz not null default now(),
    landed_at timestamptz,
    finished_at timestamptz,
    retracted_at timestamptz,
    receipt_at timestamptz,
    unique (feed, name, version)
);
create index delivery_sha256 on ledger.delivery (feed, sha256);
create index delivery_open on ledger.delivery (feed, id) where state in ('landing', 'landed');
create index delivery_unfinished on ledger.delivery (feed, id) where finished_at is null;
comment on table ledger.delivery is 'What a partner sent in one piece; landed means that its bytes are kept, read that every record in it is known';
comment on column ledger.delivery.position is 'Where reading goes on: byte offset, ordinal and the format''s context; null at the start';
comment on column ledger.delivery.retracted_at is 'When what only its predecessor said was retracted';
comment on column ledger.delivery.finished_at is 'When the source was told that the bytes are kept (archived, deleted, left)';

create table ledger.batch (
    id bigint generated always as identity primary key,
    feed text not null,
    partner text not null,
    state text not null check (state in ('staged', 'held', 'stored', 'published', 'rejected')),
    token bigint not null,
    run_id text,
    published_by text,
    mapping_version text not null,
    staged_rows bigint not null,
    awaiting bigint not null default 0,
    verdict jsonb,
    created_at timestamptz not null default now(),
    stored_at timestamptz,
    published_at timestamptz
);
create index batch_open on ledger.batch (feed, id) where state in ('staged', 'held', 'stored');
comment on table ledger.batch is 'Records that are gated and published together; stored means that the warehouse has them and destinations have not all confirmed';
comment on column ledger.batch.published_by is 'The run that published it, where another one staged it';
comment on column ledger.batch.awaiting is 'Outbox rows of this batch that no destination has confirmed or refused yet';

create table ledger.batch_slice (
    batch_id bigint not null references ledger.batch,
    delivery_id bigint not null references ledger.delivery,
    first_ordinal bigint not null,
    last_ordinal bigint not null,
    start jsonb not null,
    received bigint not null,
    quarantined bigint not null default 0,
    duplicate bigint not null default 0,
    filtered bigint not null default 0,
    discarded bigint not null default 0,
    primary key (batch_id, delivery_id)
);
create index batch_slice_delivery on ledger.batch_slice (delivery_id);
comment on table ledger.batch_slice is 'Which records of which delivery a batch holds, and how many of them ended before the store';

create table ledger.record (
    id bigint not null,
    landed_on date not null,
    batch_id bigint not null,
    location text not null,
    key bytea,
    state text check (state in ('quarantined', 'duplicate', 'filtered', 'discarded', 'published')),
    primary key (id, landed_on)
) partition by range (landed_on);
create table ledger.record_default partition of ledger.record default;
create index record_batch on ledger.record (batch_id);
comment on table ledger.record is 'One row a record; a state that is null follows the record''s batch';
comment on column ledger.record.id is 'delivery id * 2^32 + ordinal within the delivery';

create table ledger.record_key (
    key bytea primary key,
    record_id bigint not null
) partition by hash (key);
do $$ begin
    for part in 0..15 loop
        execute format('create table ledger.record_key_%s partition of ledger.record_key for values with (modulus 16, remainder %s)', part, part);
    end loop;
end $$;
comment on table ledger.record_key is 'The first record of each content, where the same bytes again are the same record';

create table ledger.quarantine (
    record_id bigint primary key,
    delivery_id bigint not null references ledger.delivery,
    batch_id bigint not null references ledger.batch,
    feed text not null,
    stage text not null,
    code text not null,
    location text not null,
    findings jsonb not null,
    mapping_version text not null,
    owner text,
    quarantined_at timestamptz not null default now(),
    ended_at timestamptz,
    ended_as text check (ended_as in ('released', 'discarded')),
    reason text
);
create index quarantine_open on ledger.quarantine (feed, code) where ended_at is null;
comment on table ledger.quarantine is 'Records that stopped, with stage, code and location; no value of a record stands here';

create table ledger.finding (
    batch_id bigint not null references ledger.batch,
    code text not null,
    location text not null,
    severity text not null,
    stage text not null,
    count bigint not null,
    first_record bigint not null,
    primary key (batch_id, stage, code, location, severity)
);
comment on table ledger.finding is 'Findings of a batch by code and location, counted';

create table ledger.sighting (
    feed text not null,
    name text not null,
    version text not null,
    polls int not null,
    seen_at timestamptz not null default now(),
    primary key (feed, name)
);
comment on table ledger.sighting is 'What a source saw and did not take yet: how many polls in a row it looked the same';

create table ledger.cursor (
    feed text primary key,
    value jsonb not null,
    updated_at timestamptz not null default now()
);
comment on table ledger.cursor is 'How far a source has been read; moves only after what lies before it was landed';

create table ledger.outbox (
    destination text not null,
    resource_type text not null,
    id text collate "C" not null,
    wanted int not null,
    confirmed int not null default 0,
    state text not null check (state in ('pending', 'confirmed', 'refused')),
    batches bigint[] not null,
    attempts int not null default 0,
    next_at timestamptz not null default now(),
    code text,
    remote_id text,
    remote_version text,
    updated_at timestamptz not null default now(),
    primary key (destination, resource_type, id)
);
create index outbox_pending on ledger.outbox (destination, next_at) where state = 'pending';
comment on table ledger.outbox is 'What each destination should have, and what it has confirmed: one row a resource and destination';
comment on column ledger.outbox.batches is 'Batches that wait for this row to be confirmed';

create table ledger.load_receipt (
    id bigint generated always as identity,
    at timestamptz not null default now(),
    destination text not null,
    resource_type text not null,
    resource_id text collate "C" not null,
    version_id int not null,
    status text not null,
    code text not null,
    finding text,
    primary key (id, at)
) partition by range (at);
create table ledger.load_receipt_default partition of ledger.load_receipt default;
create index load_receipt_resource on ledger.load_receipt (resource_id);
comment on table ledger.load_receipt is 'What a destination said of each version that it was sent';

create table ledger.event (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    feed text,
    kind text not null,
    facts jsonb not null default '{}'
);
comment on table ledger.event is 'What happened that no other table says: refused deliveries, held batches, late feeds';

create schema restricted;
comment on schema restricted is 'What only those who mend maps may read';
create table restricted.unmapped_code (
    feed text not null,
    code_table text not null,
    system text not null,
    code text not null,
    location text not null,
    count bigint not null,
    first_record bigint not null,
    first_seen_at timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    primary key (feed, code_table, system, code, location)
);
comment on table restricted.unmapped_code is 'Codes that are in no table, so that someone can mend the map';
