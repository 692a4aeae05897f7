-- What keeps a ledger of 100,000,000 records quick: monthly partitions, indexes for what is asked, and pruning.
alter table ledger.delivery add column pruned_at timestamptz;
comment on column ledger.delivery.pruned_at is 'When records of it were pruned that nothing refers to any more; its counts stand in ledger.batch_slice';

create index delivery_partner on ledger.delivery (partner, name);
create index batch_slice_batch on ledger.batch_slice (batch_id) include (received, quarantined, duplicate, filtered, discarded);
create index quarantine_delivery on ledger.quarantine (delivery_id) where ended_at is null;
create index load_receipt_at on ledger.load_receipt (at);

create function ledger.ensure_partitions(months int) returns int language plpgsql as $$
declare
    parent text;
    first date;
    made int := 0;
begin
    foreach parent in array array['record', 'load_receipt'] loop
        for step in 0..months loop
            first := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => step))::date;
            if to_regclass(format('ledger.%I', parent || to_char(first, '_YYYY_MM'))) is null then
                begin
                    execute format(
                        'create table ledger.%I partition of ledger.%I for values from (%L) to (%L)',
                        parent || to_char(first, '_YYYY_MM'), parent, first, (first + interval '1 month')::date
                    );
                    made := made + 1;
                exception when check_violation then
                    -- the default partition has rows of this month already: they stay there, the next month is new
                    null;
                end;
            end if;
        end loop;
    end loop;
    return made;
end $$;
comment on function ledger.ensure_partitions is 'Makes the partitions of this month and the next ones; returns how many were made';
select ledger.ensure_partitions(3);

create or replace view ops.invariant as
    with said as (
        select delivery_id, sum(received) as received, sum(quarantined) as quarantined, sum(duplicate) as duplicate,
               sum(filtered) as filtered, sum(discarded) as discarded
        from ledger.batch_slice group by delivery_id
    ), counted as (
        select id >> 32 as delivery_id, count(*) as received, count(*) filter (where state = 'quarantined') as quarantined,
               count(*) filter (where state = 'duplicate') as duplicate, count(*) filter (where state = 'filtered') as filtered,
               count(*) filter (where state = 'discarded') as discarded
        from ledger.record group by id >> 32
    )
    select coalesce(said.delivery_id, counted.delivery_id) as delivery_id
    from said full join counted on said.delivery_id = counted.delivery_id
    left join ledger.delivery d on d.id = coalesce(said.delivery_id, counted.delivery_id)
    where case when d.pruned_at is null then
            (said.received, said.quarantined, said.duplicate, said.filtered, said.discarded)
            is distinct from (counted.received, counted.quarantined, counted.duplicate, counted.filtered, counted.discarded)
          -- what was pruned is counted no more, but nobody has come to it, and none of what waits for somebody is gone
          else coalesce(counted.received, 0) > said.received or coalesce(counted.quarantined, 0) <> said.quarantined end;
comment on view ops.invariant is 'Deliveries whose counts and records disagree: empty while the ledger is sound';
