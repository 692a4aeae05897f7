"""Lineage: from whatever an operator has in hand to the partner's line and to every destination, and back.

Everything is a join over ids that stand on the rows; a step of a trace is one row of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tasks.ledger.db import Connection
from tasks.model import record_id, split_record_id

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NUMBER = re.compile(r"\d{1,18}")
Step = dict[str, Any]

TYPES = """
with recursive kind(name) as (
    (select resource_type from fhir.resource order by resource_type limit 1)
    union all
    select (select r.resource_type from fhir.resource r where r.resource_type > kind.name order by 1 limit 1)
    from kind where kind.name is not null
)
select array_agg(name) from kind where name is not null
"""
VERSIONS = """
select 'version' as kind, v.resource_type || '/' || v.id as resource, v.version_id as version, v.event_time,
       v.published_at, v.superseded_at is null as current, v.deleted, v.record_id, v.batch_id as batch,
       b.mapping_version
from fhir.version v left join ledger.batch b on b.id = v.batch_id where
"""
RECORD = """
select 'record' as kind, (r.id >> 32) || ':' || (r.id & 4294967295) as record, r.location as place,
       coalesce(r.state, b.state) as state, b.id as batch, b.mapping_version, b.run_id as run, e.erasure_id as erasure
from ledger.record r join ledger.batch b on b.id = r.batch_id
left join ledger.erased_record e on e.record_id = r.id where r.id = %s
"""
DELIVERY = """
select 'delivery' as kind, d.id as delivery, d.feed, d.partner, d.name, d.state, d.duplicate_of, d.corrects,
       d.landed_at, d.received, d.published, d.quarantined, d.duplicate, d.filtered, d.discarded, d.in_flight,
       d.sha256, l.run_id as run
from ops.delivery d join ledger.delivery l on l.id = d.id where d.id = any(%s) order by d.id
"""
DESTINATIONS = """
select distinct on (destination) 'destination' as kind, destination, resource_type || '/' || resource_id as resource,
       version_id as version, status, code, at, id as receipt
from ledger.load_receipt where resource_id = %s order by destination, at desc
"""
BATCHES = """
select 'batch' as kind, b.id as batch, b.feed, b.state, b.mapping_version, b.run_id as run, b.published_by,
       s.delivery_id as delivery, s.first_ordinal as first, s.last_ordinal as last
from ledger.batch b left join ledger.batch_slice s on s.batch_id = b.id where
"""
OF_RUN = (
    "b.id in (select id from ledger.batch where run_id = %s union select id from ledger.batch where published_by = %s)"
)
MAPPING = """
select 'mapping' as kind, b.mapping_version, count(*) as batches, array_agg(distinct b.feed order by b.feed) as feeds,
       min(b.created_at) as first_at, max(b.created_at) as last_at
from ledger.batch b where b.mapping_version = %s group by b.mapping_version
"""
NAMED = """
select id from ledger.delivery
where name = %(name)s and (%(feed)s::text is null or feed = %(feed)s) order by id desc limit 20
"""
LAST = "select max(last_ordinal) from ledger.batch_slice where delivery_id = %s"
PLACE = "select location from ledger.record where id = %s"
RECEIPT = "select resource_type, resource_id, version_id from ledger.load_receipt where id = %s"
SAID = """
select 'contribution' as kind, c.resource_type || '/' || c.id as resource, v.version_id as version, c.event_time,
       c.live as counts, (c.record_id >> 32) || ':' || (c.record_id & 4294967295) as record, r.batch_id as batch
from fhir.contribution c left join ledger.record r on r.id = c.record_id
left join lateral (
    select max(v.version_id) as version_id from fhir.version v
    where v.resource_type = c.resource_type and v.id = c.id and v.batch_id = r.batch_id
) v on true
where c.record_id = %s order by 2
"""
"""What a record says of things that live on; `version` is the first that holds it, where it changed anything."""
ERASED = """
select 'erasure' as kind, e.id as erasure, e.at, e.actor, e.ended_at from ledger.suppressed s
join ledger.erasure e on e.id = s.erasure_id where s.digest = %s
"""
MOST = 100
"""Batches of a mapping version that are listed, the newest; all of them are counted."""

REMOTE = "select resource_type, id from ledger.outbox where destination = %s and resource_type = %s and remote_id = %s"
ACTS = "select 'act' as kind, number, at, actor, action, subject, reason from ledger.audit where subject = %s"


def trace(connection: Connection, thing: str) -> list[Step]:
    """Return the steps from a thing to its source and its destinations; empty where the ledger does not know it.

    A thing is a resource (`Type/id` or its id), one version of it (`Type/id/_history/2`), a row of the warehouse
    (`core.observation/ID`), what a destination calls it (`ehr/Patient/ID`) or said of it (`receipt:NUMBER`), a record
    (`DELIVERY:ORDINAL`), a delivery's number, a partner's file (`north.adt/day.hl7`) or a place in it
    (`north.adt/day.hl7#message 3`), `batch:NUMBER`, `mapping:VERSION`, or a run's id.
    """
    for form, find in FORMS:
        if match := form.fullmatch(thing):
            return find(connection, *match.groups())
    return []


def _resource(connection: Connection, kind: str | None, key: str) -> list[Step]:
    # with the types named, every partition is asked by its own key
    types = [kind] if kind else connection.execute(TYPES).fetchall()[0][0]
    where = "v.resource_type = any(%s) and v.id = %s order by v.version_id desc"
    versions = _steps(connection, VERSIONS + where, types or [], key)
    steps = _with_sources(connection, versions)
    return steps + _steps(connection, DESTINATIONS, key) if versions else _erased(connection, kind, key)


def _with_sources(connection: Connection, versions: list[Step]) -> list[Step]:
    steps: list[Step] = []
    for version in versions:
        record = version.pop("record_id")
        version["record"] = _name(record)
        steps += [version, *_source(connection, record)]
    return steps


def _erased(connection: Connection, kind: str | None, key: str) -> list[Step]:
    # what it stands on takes longer to import than to ask, and hardly anybody asks for an erased patient
    from tasks.ledger.spoken import digest

    return _steps(connection, ERASED, digest(key)) if kind in {None, "Patient"} else []


def _version(connection: Connection, kind: str, key: str, number: str) -> list[Step]:
    where = "v.resource_type = %s and v.id = %s and v.version_id = %s"
    versions = _steps(connection, VERSIONS + where, kind, key, int(number))
    sent = [step for step in _steps(connection, DESTINATIONS, key) if step["version"] == int(number)]
    return _with_sources(connection, versions) + (sent if versions else [])


def _receipt(connection: Connection, number: str) -> list[Step]:
    rows = connection.execute(RECEIPT, (int(number),)).fetchall()
    return [step for kind, key, version in rows for step in _version(connection, kind, key, str(version))]


def _mapping(connection: Connection, version: str) -> list[Step]:
    where = "b.id in (select id from ledger.batch where mapping_version = %s order by id desc limit %s) order by b.id"
    return [*_steps(connection, MAPPING, version), *_steps(connection, BATCHES + where, version, MOST)]


def _file(connection: Connection, feed: str | None, name: str, place: str | None) -> list[Step]:
    found = connection.execute(NAMED, {"name": name, "feed": feed}).fetchall()
    if place is None:
        return [step for (number,) in found for step in _delivery(connection, str(number))]
    return [
        step
        for (number,) in found
        if (ordinal := _ordinal(connection, number, place))
        for step in _record(connection, str(number), str(ordinal))
    ]


def _ordinal(connection: Connection, delivery: int, place: str) -> int | None:
    """Return the record at a place (`line 17`, `message 3`): where it would be, else by halving, for places grow."""
    wanted = _numbers(place)
    for ordinal in (wanted[-1], wanted[-1] - 1):
        if _begins(connection, delivery, ordinal) == wanted:
            return ordinal
    [(last,)] = connection.execute(LAST, (delivery,)).fetchall()
    low, high = 1, last or 0
    found: int | None = None
    while low <= high:
        middle = (low + high) // 2
        begins = _begins(connection, delivery, middle)
        if begins and begins <= wanted:
            found, low = middle, middle + 1
        else:
            high = middle - 1
    return found


def _begins(connection: Connection, delivery: int, ordinal: int) -> tuple[int, ...]:
    row = connection.execute(PLACE, (record_id(delivery, ordinal),)).fetchone() if 0 < ordinal < 1 << 32 else None
    return _numbers(row[0]) if row else ()


def _numbers(place: str) -> tuple[int, ...]:
    """Return where a place begins; `lines 3 to 5` begins at 3, `entry 2` is one of the first bundle."""
    found = [int(number) for number in NUMBER.findall(place.partition(" to ")[0])]
    return (1, *found) if "entry" in place and len(found) == 1 else tuple(found)


def _resource_or_run(connection: Connection, key: str) -> list[Step]:
    return _resource(connection, None, key) or _run(connection, key)


def _row(connection: Connection, table: str, key: str) -> list[Step]:
    from tasks.core_views import core_views

    # compiling every view takes longer than every other answer
    view = core_views().get(table)
    return _resource(connection, view.resource, key) if view else []


def _remote(connection: Connection, destination: str, kind: str, key: str) -> list[Step]:
    rows = connection.execute(REMOTE, (destination, kind, key)).fetchall() or [(kind, key)]
    return [step for row in rows for step in _resource(connection, row[0], row[1])]


def _record(connection: Connection, delivery: str, ordinal: str) -> list[Step]:
    record = record_id(int(delivery), int(ordinal))
    if record >= 1 << 63:
        return []
    source = _source(connection, record)
    versions = _steps(connection, VERSIONS + "v.record_id = %s order by 2, 3", record)
    for version in versions:
        version["record"] = _name(version.pop("record_id"))
    # of a thing that several records of a batch speak of there is one version, which names the newest of them
    own = {version["resource"] for version in versions}
    said = [step for step in _steps(connection, SAID, record) if step["resource"] not in own]
    resources = {step["resource"].partition("/")[2] for step in (*versions, *said)}
    sent = [step for key in sorted(resources) for step in _steps(connection, DESTINATIONS, key)]
    return [*source, *versions, *said, *sent, *_steps(connection, ACTS, f"record:{delivery}:{ordinal}")]


def _source(connection: Connection, record: int) -> list[Step]:
    return [*_steps(connection, RECORD, record), *_steps(connection, DELIVERY, [split_record_id(record)[0]])]


def _delivery(connection: Connection, number: str) -> list[Step]:
    found = _steps(connection, DELIVERY, [int(number)])
    where = "s.delivery_id = %s order by b.id"
    return found + _steps(connection, BATCHES + where, int(number)) if found else []


def _batch(connection: Connection, number: str) -> list[Step]:
    found = _steps(connection, BATCHES + "b.id = %s order by s.delivery_id", int(number))
    return [
        *found,
        *_steps(connection, DELIVERY, [one["delivery"] for one in found if one["delivery"]]),
        *_steps(connection, ACTS, f"batch:{number}"),
    ]


def _run(connection: Connection, run: str) -> list[Step]:
    landed = connection.execute("select id from ledger.delivery where run_id = %s order by id limit 1000", (run,))
    deliveries = _steps(connection, DELIVERY, [number for (number,) in landed.fetchall()])
    return [*_steps(connection, BATCHES + OF_RUN + " order by b.id, s.delivery_id", run, run), *deliveries]


Find = Callable[..., list[Step]]
FORMS: tuple[tuple[re.Pattern[str], Find], ...] = (
    (re.compile(rf"core\.([a-z_]+)/({UUID.pattern.replace('(', '(?:')})"), _row),
    (re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})"), _resource),
    (re.compile(r"([a-z][\w-]*)/([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})"), _remote),
    (re.compile(rf"({UUID.pattern.replace('(', '(?:')})"), _resource_or_run),
    (re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})/_history/(\d{1,9})"), _version),
    (re.compile(r"receipt:(\d{1,18})"), _receipt),
    (re.compile(r"mapping:(\w{1,64})"), _mapping),
    (
        re.compile(r"(?:([\w-]+\.[\w-]+)|file)/([^#]+?)(?:#((?:line|lines|message|entry|bundle) \d{1,10}(?: .*)?))?"),
        _file,
    ),
    (re.compile(r"(\d{1,10}):(\d{1,10})"), _record),
    (re.compile(r"batch:(\d{1,18})"), _batch),
    (re.compile(r"(\d{1,10})"), _delivery),
)


def _name(record: int) -> str:
    return "{}:{}".format(*split_record_id(record))


def _steps(connection: Connection, query: str, *params: Any) -> list[Step]:
    cursor = connection.execute(query.encode(), params)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
