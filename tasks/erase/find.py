"""What is known of a patient: the ids that are the same person, the resources, the records that said so.

What speaks of the patient is found by `ledger.record_patient`, a row a record and patient: an index over every
reference of every resource would cost each publication several times as much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks import work
from tasks.errors import ConfigError, SluiceError
from tasks.feed import feed_files, load
from tasks.ledger import spoken
from tasks.ledger.db import Connection
from tasks.model import DIRECTORY, split_record_id
from tasks.process.stage import Stager
from tasks.replay.read import read_again

SHARED = sorted(DIRECTORY | {"Medication", "Substance", "HealthcareService", "Endpoint", "InsurancePlan"})
"""Types that are nobody's data: they stay, also where the patient's record was the first to name them."""

SAME = """
with recursive same(id) as (
    select %s::text
    union
    select substring(link->'other'->>'reference' from '^Patient/(.+)$')
    from same join fhir.version v on v.resource_type = 'Patient' and v.id = same.id
    cross join lateral jsonb_array_elements(v.resource->'link') link
    where jsonb_typeof(v.resource->'link') = 'array' and link->>'type' in ('replaces', 'replaced-by')
)
select same.id from same where same.id is not null order by 1
"""

SPOKE = """
create temp table spoke on commit drop as
select distinct record_id from ledger.record_patient where patient = any(%(marks)s)
"""

REFERRING = """
create temp table doomed on commit drop as
with said as (
    select resource_type, id, resource from fhir.resource
    where record_id in (select record_id from spoke) and resource::text like any(%(like)s)
    union all
    select resource_type, id, resource from fhir.history
    where record_id in (select record_id from spoke) and resource::text like any(%(like)s)
    union all
    select resource_type, id, resource from fhir.late_fact
    where record_id in (select record_id from spoke) and resource::text like any(%(like)s)
    union all
    select resource_type, id, said from fhir.contribution
    where record_id in (select record_id from spoke) and said::text like any(%(like)s)
)
select resource_type, id,
       bool_or(
           coalesce(resource #>> '{subject,reference}', resource #>> '{patient,reference}',
                    resource #>> '{beneficiary,reference}', resource #>> '{individual,reference}') = any(%(names)s)
           or not exists (
               select from regexp_matches(resource::text, '"(Patient/[A-Za-z0-9.-]{1,64})', 'g') other(name)
               where other.name[1] <> all(%(names)s)
           )
       ) as own
from said group by resource_type, id
union
select 'Patient', id, true from unnest(%(ids)s::text[]) id
"""

OF_THEM = """
create temp table mine on commit drop as
select distinct record_id from (
    select r.record_id from fhir.resource r join doomed d on d.resource_type = r.resource_type and d.id = r.id and d.own
    union all
    select h.record_id from fhir.history h join doomed d on d.resource_type = h.resource_type and d.id = h.id and d.own
    union all
    select c.record_id from fhir.contribution c
    join doomed d on d.resource_type = c.resource_type and d.id = c.id and d.own
    union all
    select l.record_id from fhir.late_fact l
    join doomed d on d.resource_type = l.resource_type and d.id = l.id and d.own
    union all
    -- records that speak of nobody else, also those of which nothing stands: repetitions, filtered, retracted, staged
    select s.record_id from spoke s where not exists (
        select from ledger.record_patient o where o.record_id = s.record_id and o.patient <> all(%(marks)s)
    )
    union all
    select s.record_id from spoke join staging.resource s on s.record_id = spoke.record_id
    where s.patients && %(marks)s::bigint[]
) said where record_id & 4294967295 > 0
"""

WITH_THEM = """
insert into doomed
select resource_type, id, true from (
    select resource_type, id from fhir.resource r where record_id in (select record_id from mine)
    union
    select resource_type, id from fhir.history where record_id in (select record_id from mine)
) said
where resource_type <> all(%(shared)s) and resource_type <> 'Patient'
  and not exists (select from doomed d where d.resource_type = said.resource_type and d.id = said.id)
  and not exists (
      select from fhir.version v where v.resource_type = said.resource_type and v.id = said.id
      and (v.record_id not in (select record_id from mine) or v.resource::text like '%%"Patient/%%')
  )
"""

GONE = """
create temp table gone on commit drop as select distinct resource_type, id, 1 as old_version from doomed where own
"""

AGAIN = """
insert into mine
select twin.id from mine join ledger.record r on r.id = mine.record_id
join ledger.record twin on twin.key = r.key and twin.state = 'duplicate'
where not exists (select from mine known where known.record_id = twin.id)
"""

GATHER = (SPOKE, "analyze spoke", REFERRING, "analyze doomed", OF_THEM, "analyze mine", WITH_THEM, AGAIN, GONE)

STOPPED = """
select d.feed, r.id from ledger.record r join ledger.delivery d on d.id = r.id >> 32
where (r.state in ('quarantined', 'filtered', 'discarded') or exists (
    select from ledger.retracted t where t.record_id = r.id
)) and coalesce(d.object, '') <> '' and not exists (select from ledger.erased_record e where e.record_id = r.id)
  and not exists (select from ledger.record_patient p where p.record_id = r.id)
order by d.feed, r.id
"""


@dataclass(frozen=True, slots=True)
class Searched:
    """What stopped records were looked through; `unread` could not be read, so that nobody knows whose they are."""

    found: tuple[int, ...] = ()
    unread: tuple[int, ...] = ()


def same_person(connection: Connection, patient: str) -> list[str]:
    """Return the ids that merges made one person; raises `ConfigError` where the store has no such patient."""
    kind, _, key = patient.rpartition("/")
    known = connection.execute("select from fhir.version where resource_type = 'Patient' and id = %s limit 1", (key,))
    if kind not in {"", "Patient"} or known.fetchone() is None:
        raise ConfigError(f"{patient} is no patient that the store has; `sluice lineage` finds a record's resources")
    return [str(row[0]) for row in connection.execute(SAME, (key,)).fetchall()]


def gather(connection: Connection, ids: list[str]) -> None:
    """Fill the transaction's temporary tables: `doomed` (resource_type, id, own), `gone` of them as the
    analysts' tables want to know it (resource_type, id, old_version), `mine` (record_id).

    A resource that is not `own` speaks of others too (a group, an appointment of several): it stays.
    """
    params = asked(ids)
    for statement in GATHER:
        connection.execute(statement.encode(), params)


def asked(ids: list[str]) -> dict[str, list[Any]]:
    """Return the parameters with which `GATHER` asks for patients."""
    names = [f"Patient/{key}" for key in ids]
    return {
        "ids": ids,
        "names": names,
        "like": [f'%"{name}{end}%' for name in names for end in ('"', "/")],
        "marks": [spoken.mark(key) for key in ids],
        "shared": SHARED,
    }


def search_stopped(connection: Connection, ids: list[str], tell: Callable[[int], None]) -> Searched:
    """Look through what stopped before the store, of which the store cannot tell whom it is about.

    Every such record is read from landing and converted again; `tell` is called with how many have been.
    """
    wanted, rows = set(ids), connection.execute(STOPPED).fetchall()
    found: list[int] = []
    unread: list[int] = []
    for number, (record, names) in enumerate(_said(connection, rows)):
        if names is None:
            unread.append(record)
        elif names & wanted:
            found.append(record)
        tell(number + 1)
    return Searched(tuple(found), tuple(unread))


def _said(connection: Connection, rows: list[tuple[str, int]]) -> Iterator[tuple[int, set[str] | None]]:
    """Yield (record, the patients that it names); None where it cannot be read."""
    groups: dict[tuple[str, int], list[int]] = {}
    for feed, record in rows:
        groups.setdefault((feed, split_record_id(record)[0]), []).append(record)
    for (feed, _), records in groups.items():
        left = set(records)
        try:
            if feed in feed_files():
                stager = Stager(load(feed), work.landing(), work.pipeline(feed))
                for record, _, frame in read_again(connection, stager, records):
                    conversion = stager.pipeline.said(frame)
                    left.discard(record)
                    yield record, spoken.patients(conversion) if conversion.entries else None
        except SluiceError:
            # a delivery whose bytes or maps are gone: what it says stays unknown, and is told as such
            pass
        for record in sorted(left):
            yield record, None
