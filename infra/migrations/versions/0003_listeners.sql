-- What listeners land: segments that grow while they are read, and what arrived in them.
create table ledger.segment (
    delivery_id bigint primary key,
    size bigint not null default 0,
    read_to bigint not null default 0,
    messages bigint not null default 0,
    closed_at timestamptz
) with (fillfactor = 50);
comment on table ledger.segment is 'How far a listener has landed a delivery that grows, and how far it was read; a message counts from the commit here';
comment on column ledger.segment.size is 'Plain bytes that are kept; what the file holds behind them was never acknowledged';
comment on column ledger.segment.closed_at is 'When nothing more could come; a delivery without a row here was landed whole';

create table ledger.arrival (
    delivery_id bigint not null,
    start bigint not null,
    control bytea not null,
    digest bytea not null,
    finding text,
    at timestamptz not null,
    primary key (delivery_id, start)
);
create index arrival_control on ledger.arrival (control);
create index arrival_finding on ledger.arrival (delivery_id, start) where finding is not null;
comment on table ledger.arrival is 'One row a message that was acknowledged, kept as long as a repetition gets the same answer';
comment on column ledger.arrival.control is 'Keyed hash of feed, sender and control id';
comment on column ledger.arrival.digest is 'Keyed hash of the message''s bytes';
comment on column ledger.arrival.at is 'The acknowledgement''s own time';
