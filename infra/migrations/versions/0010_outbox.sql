-- Each destination's own pause, and which records wait for each of its rows.
create table ledger.destination (
    name text primary key,
    failures int not null default 0,
    paused_until timestamptz,
    why text,
    updated_at timestamptz not null default now()
);
comment on table ledger.destination is 'Destinations that took nothing of late, and until when they are left alone: their queues wait as they are';
comment on column ledger.destination.why is 'The transport''s own word: a status, or what kind of failure it was';

alter table ledger.outbox add column records bigint[] not null default '{}';
comment on column ledger.outbox.records is 'Records that say what waits, or what was refused: all of them are quarantined when it is refused';
create index outbox_refused on ledger.outbox using gin (records) where state = 'refused';

create view ops.destination as
    select o.destination, count(*) filter (where o.state = 'pending') as pending,
           count(*) filter (where o.state = 'confirmed') as confirmed, count(*) filter (where o.state = 'refused') as refused,
           min(o.updated_at) filter (where o.state = 'pending') as oldest_pending,
           max(d.failures) as failures, max(d.paused_until) as paused_until, max(d.why) as why
    from ledger.outbox o left join ledger.destination d on d.name = o.destination
    group by o.destination;
comment on view ops.destination is 'How far each destination is, and whether it is left alone for a while';
