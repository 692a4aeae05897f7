alter table ledger.finding add column if not exists records int8multirange;
comment on column ledger.finding.records is
    'The ids of the records that had it, as ranges; empty for what was counted before they were kept';
