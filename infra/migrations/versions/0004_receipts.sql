-- Receipts and expectations: what partners are told, and what did not come.
alter table ledger.delivery add column receipt jsonb;
comment on column ledger.delivery.receipt is 'What its partner is told: null where the feed gives no receipts, {} until the delivery has ended, then fixed';
comment on column ledger.delivery.receipt_at is 'When the receipt stood where the feed says';
create index delivery_receipt on ledger.delivery (feed, id) where receipt is not null and receipt_at is null;
create index delivery_landed on ledger.delivery (feed, landed_at);

create unique index event_once on ledger.event (feed, kind, (facts ->> 'day'))
    where kind in ('late', 'missing', 'too-small', 'too-large');
create index event_feed on ledger.event (feed, kind);
comment on index ledger.event_once is 'What did not come as expected is told once a feed, day and kind';
