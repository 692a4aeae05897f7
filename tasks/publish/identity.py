"""Merged patients: whom a retired patient leads to stands in `fhir.identity`, and what was said of either stays.

The table follows `Patient.link` of the current versions. An operator's un-merge is a contribution like any other: it
clears the fields that say so, at the time of the act, so that a merge that happens later counts again.
"""

from __future__ import annotations

from typing import Any

from mappings.engine.json import digest, dumps, loads
from tasks.errors import ConfigError
from tasks.feed import load
from tasks.ledger import audit, batches
from tasks.ledger.db import Connection
from tasks.model import record_id, split_record_id
from tasks.publish.fold import fold
from tasks.publish.incoming import changes, create_incoming

RETIRED, SURVIVES = "replaced-by", "replaces"

REDIRECT = (
    """
    delete from fhir.identity i using changed c
    where c.resource_type = 'Patient' and c.old_version is not null
      and i.resource_type = c.resource_type and i.retired_id = c.id
    """,
    """
    insert into fhir.identity (resource_type, retired_id, survivor_id, record_id, event_time)
    select distinct on (c.id, other) c.resource_type, c.id, other, c.record_id, c.event_time
    from changed c
    join fhir.resource r on r.resource_type = c.resource_type and r.id = c.id
    cross join lateral jsonb_array_elements(r.resource -> 'link') link
    cross join lateral substring(link #>> '{other,reference}' from '^Patient/([A-Za-z0-9.-]+)') other
    where c.resource_type = 'Patient' and not r.deleted and link ->> 'type' = 'replaced-by' and other is not null
    on conflict do nothing
    """,
)

MERGES = """
select i.retired_id as patient, i.survivor_id as into, i.event_time as at, d.feed, d.name as delivery,
       r.location as place
from fhir.identity i left join ledger.record r on r.id = i.record_id
left join ledger.delivery d on d.id = i.record_id >> 32
where i.resource_type = 'Patient' and (%(patient)s::text is null or %(patient)s in (i.retired_id, i.survivor_id))
order by i.event_time desc, i.retired_id
"""


def redirect(connection: Connection) -> None:
    """Bring `fhir.identity` up to date for the patients in `changed`, after they were written."""
    for statement in REDIRECT:
        connection.execute(statement)


def merges(connection: Connection, patient: str | None = None) -> list[dict[str, Any]]:
    """Return the merges that stand now, newest first, those of one patient or all: ids, times and records."""
    cursor = connection.execute(MERGES, {"patient": patient})
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def take_apart(connection: Connection, retired: str, actor: str, reason: str) -> tuple[int, str]:
    """Fill `incoming` and `changed` with the patients of a merge as they are without it; return the batch and its feed.

    Inside the caller's transaction, with publishing locked. Raises `ConfigError` where the patient is not merged.
    """
    rows = connection.execute(
        "select survivor_id, record_id from fhir.identity where resource_type = 'Patient' and retired_id = %s",
        (retired,),
    ).fetchall()
    if not rows:
        raise ConfigError(
            f"patient {retired} is not merged into another; `sluice patient merges` prints those that are"
        )
    delivery, _ = split_record_id(max(row[1] for row in rows))
    by = record_id(delivery, 0)
    survivors = sorted({str(row[0]) for row in rows})
    audit.append(connection, actor, "unmerge", f"Patient/{retired}", reason, counts={"survivors": len(survivors)})
    feed = _feed(connection, retired)
    batch_id = batches.open_batch(connection, load(feed), 0, None, "unmerge")
    create_incoming(connection)
    connection.execute(
        'create temp table touched (resource_type text, id text collate "C", fhir_version text) on commit drop'
    )
    for patient, kind, others in [(retired, RETIRED, survivors), *((one, SURVIVES, [retired]) for one in survivors)]:
        _unlink(connection, patient, kind, others, by)
    fold(connection, "touched")
    changes(connection)
    return batch_id, feed


def _feed(connection: Connection, patient: str) -> str:
    row = connection.execute(
        "select feed from fhir.resource where resource_type = 'Patient' and id = %s", (patient,)
    ).fetchone()
    return str(row[0]) if row else ""


def _unlink(connection: Connection, patient: str, kind: str, others: list[str], by: int) -> None:
    """Say, as of now, nothing in the fields that link a patient; a patient that is a fact gets a version without it."""
    said = connection.execute(
        "select said::text from fhir.contribution where resource_type = 'Patient' and id = %s and live", (patient,)
    ).fetchall()
    if not said:
        _unlink_fact(connection, patient, kind, others, by)
        return
    slots = {
        slot
        for (text,) in said
        for slot, pairs in loads(text).items()
        # of patients that were merged both ways neither merge is left
        if any(path == "link" and any(_leads(link, others) for link in value) for path, value in pairs)
    }
    connection.execute(
        """
        insert into fhir.contribution as c (resource_type, id, record_id, event_time, said)
        values ('Patient', %(id)s, %(by)s, now(), %(said)s)
        on conflict (id, resource_type, record_id) do update
            set event_time = now(), said = c.said || excluded.said, live = true
        """,
        {"id": patient, "by": by, "said": dumps({slot: [] for slot in sorted(slots)}).decode()},
    )
    connection.execute(
        "insert into touched select 'Patient', id, fhir_version from fhir.resource "
        "where resource_type = 'Patient' and id = %s",
        (patient,),
    )


def _unlink_fact(connection: Connection, patient: str, kind: str, others: list[str], by: int) -> None:
    row = connection.execute(
        "select resource::text, fhir_version from fhir.resource where resource_type = 'Patient' and id = %s", (patient,)
    ).fetchone()
    if row is None:
        return
    resource = loads(row[0])
    resource["link"] = [link for link in resource.get("link", []) if not _links(link, kind, others)]
    if not resource["link"]:
        del resource["link"]
    if kind == RETIRED:
        resource.pop("active", None)
    connection.execute(
        """
        insert into incoming (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, resource)
        values ('Patient', %s, now(), %s, %s, false, %s, false, %s)
        """,
        (patient, by, row[1], digest(resource), dumps(resource).decode()),
    )


def _links(link: dict[str, Any], kind: str, others: list[str]) -> bool:
    return link.get("type") == kind and _leads(link, others)


def _leads(link: dict[str, Any], others: list[str]) -> bool:
    return str(link.get("other", {}).get("reference", "")).removeprefix("Patient/") in others
