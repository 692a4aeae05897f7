create table ledger.retracted (
    record_id bigint primary key,
    delivery_id bigint not null,
    at timestamptz not null default now()
);
comment on table ledger.retracted is 'Records whose statements a corrected delivery took back: no replay brings them again';
comment on column ledger.retracted.delivery_id is 'The corrected delivery that no longer says them';

create index record_said_again on ledger.record (key) where state = 'duplicate';
create index outbox_turn on ledger.outbox (destination, (batches[1]), resource_type, id) where state = 'pending';
