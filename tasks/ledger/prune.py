"""Upkeep: partitions for the months to come, and pruning of what nobody can ask for any more.

Never touched: deliveries of which anything is in flight, held, in quarantine, or owed to the source or the partner;
records that a version, a contribution or a fact refers to, which are lineage; keys, by which a repetition is known;
duplicates, because they say that another delivery stands by the same words.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

from tasks.ledger.db import Connection

MONTHS = 3
AT_ONCE = 200
"""Deliveries of one transaction."""

DUE = """
select d.id from ledger.delivery d
where d.pruned_at is null and d.landed_at < now() - make_interval(days => %(days)s)
  and d.state in ('read', 'duplicate', 'refused') and d.finished_at is not null
  and (d.receipt is null or d.receipt_at is not null)
  and not exists (select from ledger.quarantine q where q.delivery_id = d.id and q.ended_at is null)
  and not exists (
    select from ledger.batch_slice s join ledger.batch b on b.id = s.batch_id
    where s.delivery_id = d.id and b.state in ('staged', 'held', 'stored')
  )
order by d.id limit %(limit)s for update of d skip locked
"""
RECORDS = """
delete from ledger.record r using unnest(%(deliveries)s::bigint[]) d(id)
where r.id >= d.id << 32 and r.id < (d.id + 1) << 32
  and (r.state in ('filtered', 'discarded') or r.state is null or r.state = 'published')
  and not exists (select from fhir.resource v where v.record_id = r.id)
  and not exists (select from fhir.history v where v.record_id = r.id)
  and not exists (select from fhir.contribution v where v.record_id = r.id)
  and not exists (select from fhir.late_fact v where v.record_id = r.id)
  and not exists (select from fhir.said_again v where v.record_id = r.id)
"""
SPOKEN = """
delete from ledger.record_patient p using unnest(%(deliveries)s::bigint[]) d(id)
where p.record_id >= d.id << 32 and p.record_id < (d.id + 1) << 32
  and not exists (select from ledger.record r where r.id = p.record_id)
"""
MARK = "update ledger.delivery set pruned_at = now() where id = any(%(deliveries)s)"
# what a destination said last of a resource is the proof that it has it
LOAD_RECEIPTS = """
delete from ledger.load_receipt old where old.at < now() - make_interval(days => %(days)s) and exists (
    select from ledger.load_receipt newer
    where newer.resource_id = old.resource_id and newer.destination = old.destination
      and newer.resource_type = old.resource_type and newer.id > old.id
)
"""
SIGHTINGS = "delete from ledger.sighting where seen_at < now() - make_interval(days => %(days)s)"


def ensure_partitions(connection: Connection, months: int = MONTHS) -> int:
    """Make the partitions of this month and the next ones where they are missing; return how many were made."""
    row = connection.execute("select ledger.ensure_partitions(%s)", (months,)).fetchone()
    return int(row[0]) if row else 0


def prune(connection: Connection, days: int, *, dry_run: bool = False) -> dict[str, int]:
    """Prune what ended more than `days` ago; return how many rows of what. A dry run counts the same and keeps them."""
    counts: Counter[str] = Counter(deliveries=0, records=0)
    # a real run commits piece by piece: it may be long, and whoever works beside it must not wait for its locks
    with connection.transaction(force_rollback=True) if dry_run else nullcontext():
        while True:
            with connection.transaction():
                rows = connection.execute(DUE, {"days": days, "limit": AT_ONCE}).fetchall()
                found = {"deliveries": [row[0] for row in rows]}
                counts["records"] += connection.execute(RECORDS, found).rowcount if rows else 0
                for statement in (SPOKEN, MARK):
                    connection.execute(statement, found)
            counts["deliveries"] += len(rows)
            if len(rows) < AT_ONCE:
                break
        for name, statement in (("load_receipts", LOAD_RECEIPTS), ("sightings", SIGHTINGS)):
            counts[name] = connection.execute(statement, {"days": days}).rowcount
    return dict(counts)
