"""Lineage: from whatever an operator has in hand to the partner's line and to every destination, and back.

Everything is a join over ids that stand on the rows; a step of a trace is one row of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tasks.core_views import core_views
from tasks.ledger.db import Connection
from tasks.model import record_id, split_record_id

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
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
       coalesce(r.state, b.state) as state, b.id as batch, b.mapping_version, b.run_id as run
from ledger.record r join ledger.batch b on b.id = r.batch_id where r.id = %s
"""
DELIVERY = """
select 'delivery' as kind, d.id as delivery, d.feed, d.partner, d.name, d.state, d.duplicate_of, d.corrects,
       d.landed_at, d.sha256, l.run_id as run
from ops.delivery d join ledger.delivery l on l.id = d.id where d.id = %s
"""
DESTINATIONS = """
select distinct on (destination) 'destination' as kind, destination, resource_type || '/' || resource_id as resource,
       version_id as version, status, code, at
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
REMOTE = "select resource_type, id from ledger.outbox where destination = %s and resource_type = %s and remote_id = %s"
ACTS = "select 'act' as kind, number, at, actor, action, subject, reason from ledger.audit where subject = %s"


def trace(connection: Connection, thing: str) -> list[Step]:
    """Return the steps from a thing to its source and its destinations; empty where the ledger does not know it.

    A thing is a resource (`Type/id` or its id), a row of the warehouse (`core.observation/ID`), what a destination
    calls it (`ehr/Patient/ID`), a record (`DELIVERY:ORDINAL`), a delivery's number, `batch:NUMBER`, or a run's id.
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
    steps: list[Step] = []
    for version in versions:
        record = version.pop("record_id")
        version["record"] = _name(record)
        steps += [version, *_source(connection, record)]
    return steps + _steps(connection, DESTINATIONS, key) if versions else []


def _resource_or_run(connection: Connection, key: str) -> list[Step]:
    return _resource(connection, None, key) or _run(connection, key)


def _row(connection: Connection, table: str, key: str) -> list[Step]:
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
    resources = {version["resource"].partition("/")[2] for version in versions}
    sent = [step for key in sorted(resources) for step in _steps(connection, DESTINATIONS, key)]
    return [*source, *versions, *sent, *_steps(connection, ACTS, f"record:{delivery}:{ordinal}")]


def _source(connection: Connection, record: int) -> list[Step]:
    return [*_steps(connection, RECORD, record), *_steps(connection, DELIVERY, split_record_id(record)[0])]


def _delivery(connection: Connection, number: str) -> list[Step]:
    found = _steps(connection, DELIVERY, int(number))
    where = "s.delivery_id = %s order by b.id"
    return found + _steps(connection, BATCHES + where, int(number)) if found else []


def _batch(connection: Connection, number: str) -> list[Step]:
    found = _steps(connection, BATCHES + "b.id = %s order by s.delivery_id", int(number))
    return [
        *found,
        *(step for one in found if one["delivery"] for step in _steps(connection, DELIVERY, one["delivery"])),
        *_steps(connection, ACTS, f"batch:{number}"),
    ]


def _run(connection: Connection, run: str) -> list[Step]:
    landed = connection.execute("select id from ledger.delivery where run_id = %s order by id limit 1000", (run,))
    deliveries = [step for (number,) in landed.fetchall() for step in _steps(connection, DELIVERY, number)]
    return [*_steps(connection, BATCHES + OF_RUN + " order by b.id, s.delivery_id", run, run), *deliveries]


Find = Callable[..., list[Step]]
FORMS: tuple[tuple[re.Pattern[str], Find], ...] = (
    (re.compile(rf"core\.([a-z_]+)/({UUID.pattern.replace('(', '(?:')})"), _row),
    (re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})"), _resource),
    (re.compile(r"([a-z][\w-]*)/([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})"), _remote),
    (re.compile(rf"({UUID.pattern.replace('(', '(?:')})"), _resource_or_run),
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
