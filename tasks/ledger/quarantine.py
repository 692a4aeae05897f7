"""Quarantine: records that stopped, each with where and why; their bytes stay in landing."""

from __future__ import annotations

from typing import Any

from tasks.ledger import audit
from tasks.ledger.db import Connection

COLUMNS = """
select (q.record_id >> 32) || ':' || (q.record_id & 4294967295) as record, q.feed, d.name as delivery_name,
       r.location as place, q.stage, q.code, q.location, q.mapping_version, q.owner,
       to_char(now() - q.quarantined_at, 'DD"d" HH24:MI') as age, q.delivery_id, q.batch_id, b.run_id as run, q.findings
from ledger.quarantine q
join ledger.delivery d on d.id = q.delivery_id
join ledger.batch b on b.id = q.batch_id
left join ledger.record r on r.id = q.record_id
"""


def listed(connection: Connection, feed: str | None = None, code: str | None = None) -> list[dict[str, Any]]:
    """Return what is in quarantine now, oldest first, of one feed or with one code where asked."""
    return _rows(
        connection,
        COLUMNS
        + """
        where q.ended_at is null and (%(feed)s::text is null or q.feed = %(feed)s)
          and (%(code)s::text is null or q.code = %(code)s)
        order by q.record_id
        """,
        {"feed": feed, "code": code},
    )


def grouped(connection: Connection, feed: str | None = None, code: str | None = None) -> list[dict[str, Any]]:
    """Return how many records are in quarantine by feed, stage, code and location, most first."""
    return _rows(
        connection,
        """
        select count(*) as records, feed, stage, code, location, owner,
               to_char(now() - min(quarantined_at), 'DD"d" HH24:MI') as oldest
        from ledger.quarantine
        where ended_at is null and (%(feed)s::text is null or feed = %(feed)s)
          and (%(code)s::text is null or code = %(code)s)
        group by feed, stage, code, location, owner order by records desc, feed, code, location
        """,
        {"feed": feed, "code": code},
    )


def unmapped(connection: Connection, feed: str | None = None) -> list[dict[str, Any]]:
    """Return where codes came that no table has, counted; not the codes, which are what somebody sent."""
    return _rows(
        connection,
        """
        select feed, code_table, location, count(*) as codes, sum(count)::bigint as times,
               to_char(now() - max(last_seen_at), 'DD"d" HH24:MI') as last
        from restricted.unmapped_code where %(feed)s::text is null or feed = %(feed)s
        group by feed, code_table, location order by times desc, feed, code_table, location
        """,
        {"feed": feed},
    )


def unmapped_codes(connection: Connection, feed: str | None, actor: str, reason: str) -> list[dict[str, Any]]:
    """Return the unmapped codes themselves for who mends a map; the audit trail says so first.

    Raises `ConfigError` without a reason.
    """
    audit.append(connection, actor, "unmapped-codes", f"feed:{feed}" if feed else "everything", reason)
    return _rows(
        connection,
        """
        select feed, code_table, system, code, location, count as times,
               (first_record >> 32) || ':' || (first_record & 4294967295) as first_record
        from restricted.unmapped_code where %(feed)s::text is null or feed = %(feed)s
        order by feed, code_table, count desc, system, code
        """,
        {"feed": feed},
    )


def shown(connection: Connection, record: int) -> dict[str, Any] | None:
    """Return everything that is known of one quarantined record."""
    return next(iter(_rows(connection, COLUMNS + "where q.record_id = %(record)s", {"record": record})), None)


def _rows(connection: Connection, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
    cursor = connection.execute(query, params)
    names = [column.name for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
