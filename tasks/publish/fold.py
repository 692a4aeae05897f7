"""The fold: a thing that lives on becomes one resource from the newest word in each of its fields.

Newest by (event time, landing order), so the result does not depend on the order of arrival. Contributions whose every
field has been said anew are marked, and are not read again: a fold costs what is new and what still counts.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby
from typing import Any

from mappings.engine.json import digest, dumps, loads
from mappings.engine.slots import assemble
from tasks.ledger.db import Connection
from tasks.model import DELETED, DIRECTORY

Row = tuple[Any, ...]

LIVE = """
select c.resource_type, c.id, c.event_time, c.record_id, t.fhir_version, c.said::text
from {touched} t join fhir.contribution c on c.id = t.id and c.resource_type = t.resource_type and c.live
order by c.resource_type collate "C", c.id, c.event_time desc, c.record_id desc
"""

INTO = """
copy incoming (resource_type, id, event_time, record_id, fhir_version, deleted, digest, living, resource) from stdin
"""

# what a directory's entry said earlier is not kept: it is never retracted
FORGET = """
delete from fhir.contribution c using obsolete o
where c.id = o.id and c.resource_type = o.resource_type and c.record_id = o.record_id
"""
MARK = """
update fhir.contribution c set live = false from obsolete o
where c.id = o.id and c.resource_type = o.resource_type and c.record_id = o.record_id
"""


def fold(connection: Connection, touched: str) -> None:
    """Put into `incoming` every living thing that the relation `touched` (resource_type, id, fhir_version) names."""
    connection.execute(f"analyze {touched}".encode())
    obsolete: list[tuple[str, str, int]] = []
    with connection.cursor() as reading, connection.cursor() as writing:
        reading.execute(LIVE.format(touched=touched).encode())
        things = [_thing(list(rows), obsolete) for _, rows in groupby(reading, key=lambda row: (row[0], row[1]))]
        with writing.copy(INTO) as copy:
            for thing in things:
                copy.write_row(thing)
    _settle(connection, FORGET, [row for row in obsolete if row[0] in DIRECTORY])
    _settle(connection, MARK, [row for row in obsolete if row[0] not in DIRECTORY])


def _thing(rows: list[Row], obsolete: list[tuple[str, str, int]]) -> Row:
    """Return one thing's row of `incoming` from its contributions, newest first; note those that say nothing new."""
    resource_type, resource_id, event_time, record, fhir_version, _ = rows[0]
    slots: dict[str, Any] = {}
    deleted = False
    for place, (*_, older, _version, text) in enumerate(rows):
        said = loads(text)
        if place == 0:
            deleted = DELETED in said
        new = said.keys() - slots.keys()
        for slot in new:
            slots[slot] = said[slot]
        if not new:
            obsolete.append((resource_type, resource_id, older))
    slots.pop(DELETED, None)
    if resource_type == "Patient" and "MRG" in slots:
        _settle_merge(slots, rows)
    resource = assemble(resource_type, resource_id, slots)
    text = dumps(resource).decode()
    return (resource_type, resource_id, event_time, record, fhir_version, deleted, digest(resource), True, text)


def _settle_merge(slots: dict[str, Any], rows: list[Row]) -> None:
    """Of a merge and its contrary let the newer stand: who is merged into the one that it survived is retired, and
    whose survivor is merged into it lives again (HL7 v2 names each pair in the slots `MRG` and `MRG:<the other>`)."""
    for other in [link["other"]["reference"].partition("/")[2] for link in dict(slots["MRG"]).get("link", ())]:
        contrary = f"MRG:{other}"
        if contrary in slots:
            newest = next(said for *_, text in rows if (said := {"MRG", contrary} & loads(text).keys()))
            for older in {"MRG", contrary} - newest:
                slots.pop(older, None)


def _settle(connection: Connection, statement: str, obsolete: Collection[tuple[str, str, int]]) -> None:
    if not obsolete:
        return
    connection.execute("drop table if exists pg_temp.obsolete")
    connection.execute(
        'create temp table obsolete (resource_type text, id text collate "C", record_id bigint) on commit drop'
    )
    with connection.cursor().copy("copy obsolete from stdin") as copy:
        for row in obsolete:
            copy.write_row(row)
    connection.execute("analyze obsolete")
    connection.execute(statement.encode())
