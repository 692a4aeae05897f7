"""What a feed published lately, as the rows that its checks look at: kept by whoever drains it, batch after batch.

A batch of the drain is too small to say anything about shares and counts, and reading the window from the store again
for each would take longer than the batch: so its rows are read once, and each batch that was published adds its own. Of
a busy feed the newest `MOST` resources are enough to judge a share by, and a look at them takes a fifth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mappings.engine.json import loads
from tasks.core_views import core_views
from tasks.ledger.db import Connection

RECORDS = "records"
RECORD_COLUMNS = ("record", "ended", "location", "resources")

MOST = 5_000
"""Resources or records of a table that a look takes in, the newest ones, beside those of the batch itself."""

Rows = list[Any]
"""The rows of one resource, or of one record: as many as its view makes of it."""
Found = dict[Any, Rows]
"""Rows by resource id or record id: what is said again takes the place of what was said."""

STAGED_RECORDS = """
select r.id, r.state, r.location, count(s.id) from ledger.record r
left join staging.resource s on s.record_id = r.id and s.batch_id = %(batch)s
where r.batch_id = %(batch)s or r.id in (select record_id from staging.resource where batch_id = %(batch)s)
group by r.id, r.state, r.location
"""
STAGED = """
select id, resource from staging.resource
where batch_id = %(batch)s and resource_type = %(kind)s and not deleted
order by event_time, record_id
"""
LATELY = """
ledger.batch recent join ledger.record r on r.batch_id = recent.id
where recent.feed = %(feed)s and recent.state in ('stored', 'published')
  and recent.created_at > now() - make_interval(secs => %(seconds)s)
"""
RECENT_RECORDS = f"""
select r.id, r.state, r.location, null::bigint from {LATELY} order by r.id desc limit {MOST}
"""  # noqa: S608
RECENT = f"""
select v.id, v.resource::text from fhir.resource v
where v.resource_type = %(kind)s and not v.deleted and v.record_id in (select r.id from {LATELY})
order by v.record_id desc limit {MOST}
"""  # noqa: S608


def of_batch(connection: Connection, batch_id: int, table: str) -> Found:
    """Return the rows that a staged batch would add to a table."""
    return _read(connection, table, STAGED_RECORDS, STAGED, {"batch": batch_id})


def columns(table: str) -> list[str]:
    """Return a table's columns, in the order of its rows."""
    return list(RECORD_COLUMNS) if table == RECORDS else [column.name for column in core_views()[table].columns]


def _read(connection: Connection, table: str, records: str, resources: str, params: Mapping[str, Any]) -> Found:
    if table == RECORDS:
        rows = connection.execute(records.encode(), params).fetchall()
        return {row[0]: [dict(zip(RECORD_COLUMNS, row, strict=True))] for row in rows}
    view = core_views()[table]
    found: Found = {}
    with connection.transaction(), connection.cursor("rows") as cursor:
        cursor.execute(resources.encode(), {**params, "kind": view.resource})
        for key, text in cursor:
            found[key] = list(view.rows([loads(text)]))
    return found


def _oldest_first(connection: Connection, table: str, params: Mapping[str, Any]) -> Iterable[tuple[Any, Rows]]:
    return reversed(_read(connection, table, RECENT_RECORDS, RECENT, params).items())


class Window:
    """The rows of one feed's last `seconds`, table by table."""

    def __init__(self, connection: Connection, feed: str, tables: Iterable[str], seconds: float) -> None:
        self._seconds = seconds
        params = {"feed": feed, "seconds": seconds}
        now = time.monotonic()
        self._held: dict[str, dict[Any, tuple[float, Rows]]] = {
            table: {key: (now, rows) for key, rows in _oldest_first(connection, table, params)} for table in tables
        }
        self._looked_at: dict[str, Found] = {}

    def around(self, table: str, found: Found) -> Iterator[Any]:
        """Yield the window's rows of a table and those of a batch; what the batch says anew is not there twice."""
        self._looked_at[table] = found
        edge = time.monotonic() - self._seconds
        held = self._held[table]
        while held and ((oldest := next(iter(held.items())))[1][0] < edge or len(held) > MOST):
            del held[oldest[0]]
        for key, (_, rows) in held.items():
            if key not in found:
                yield from rows
        for rows in found.values():
            yield from rows

    def published(self) -> None:
        """Let the rows of the batch that was looked at last count for those that follow."""
        now = time.monotonic()
        for table, found in self._looked_at.items():
            held = self._held[table]
            for key, rows in found.items():
                held.pop(key, None)
                held[key] = (now, [{**row, "resources": None} for row in rows] if table == RECORDS else rows)
        self._looked_at = {}
