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
            -- a delivery without a record that was read beside others has counts of zero and nothing to count
            and not (counted.delivery_id is null and said.received = 0)
          -- what was pruned is counted no more, but nobody has come to it, and none of what waits for somebody is gone
          else coalesce(counted.received, 0) > said.received or coalesce(counted.quarantined, 0) <> said.quarantined end;
