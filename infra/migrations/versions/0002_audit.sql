-- The audit trail: who did what to whose data, and why. Rows are chained by hashes and never change.
create table ledger.audit (
    number bigint primary key,
    at timestamptz not null,
    actor text not null check (actor <> ''),
    action text not null check (action <> ''),
    subject text not null,
    reason text not null check (reason <> ''),
    counts jsonb not null default '{}',
    previous bytea not null,
    hash bytea not null
);
comment on table ledger.audit is 'What operators did: releases, rejections, decryptions, replays, configuration; append-only and hash-chained';
comment on column ledger.audit.number is '1, 2, 3 … without a gap';
comment on column ledger.audit.previous is 'The hash of the row before; 32 zero bytes before the first';
comment on column ledger.audit.hash is 'sha256 over previous and the row''s content as compact JSON (tasks/ledger/audit.py); `sluice audit verify` computes it again';

create function ledger.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'the audit trail is append-only' using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete on ledger.audit
    for each row execute function ledger.refuse_change();
create trigger append_only_truncate before truncate on ledger.audit
    for each statement execute function ledger.refuse_change();

create index batch_run on ledger.batch (run_id);
create index batch_published_by on ledger.batch (published_by);
create index delivery_run on ledger.delivery (run_id);
create index outbox_resource on ledger.outbox (id);
create index outbox_remote on ledger.outbox (remote_id) where remote_id is not null;
