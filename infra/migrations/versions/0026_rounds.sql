-- What was being written into files when a process died is written again with the same content, and not a second time.
create table ledger.round (
    destination text primary key,
    resource_types text[] not null,
    ids text[] not null,
    versions int[] not null,
    begun_at timestamptz not null default now()
);
comment on table ledger.round is 'What a destination that writes many things into one file is being given: the same is given again when nobody noted that it arrived';
comment on column ledger.round.destination is 'The destination';
comment on column ledger.round.resource_types is 'FHIR resource types, in the order in which they are given';
comment on column ledger.round.ids is 'The resources'' ids, in the same order';
comment on column ledger.round.versions is 'The resources'' versions, in the same order';
comment on column ledger.round.begun_at is 'When it was first given';
