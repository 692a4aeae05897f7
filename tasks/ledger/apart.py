"""Records of a batch that wait, or are judged, apart from the others of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from tasks.ledger.db import Connection
from tasks.model import DIRECTORY

MOVE = (
    "update ledger.record set batch_id = %(apart)s where id = any(%(records)s) and batch_id = %(batch)s",
    # a directory's entry stands once for all records of a batch that say it: both batches need it
    """
    insert into staging.resource
        (batch_id, record_id, resource_type, id, event_time, fhir_version, deleted, destinations, digest, resource,
         slots)
    select %(apart)s, record_id, resource_type, id, event_time, fhir_version, deleted, destinations, digest, resource,
           slots
    from staging.resource where batch_id = %(batch)s and resource_type = any(%(directory)s)
    """,
    """
    update staging.resource set batch_id = %(apart)s
    where batch_id = %(batch)s and record_id = any(%(records)s) and resource_type <> all(%(directory)s)
    """,
    """
    with moved as (select id >> 32 as delivery_id, count(*) as n from unnest(%(records)s::bigint[]) id group by 1),
    copied as (
        insert into ledger.batch_slice (batch_id, delivery_id, first_ordinal, last_ordinal, start, received)
        select %(apart)s, s.delivery_id, s.first_ordinal, s.last_ordinal, s.start, m.n
        from ledger.batch_slice s join moved m on m.delivery_id = s.delivery_id where s.batch_id = %(batch)s
    )
    update ledger.batch_slice s set received = s.received - m.n from moved m
    where s.batch_id = %(batch)s and s.delivery_id = m.delivery_id
    """,
    """
    update ledger.batch b set staged_rows = (select count(*) from staging.resource s where s.batch_id = b.id)
    where b.id in (%(batch)s, %(apart)s)
    """,
)


def set_apart(
    connection: Connection, batch_id: int, records: Sequence[int], state: str, verdict: Mapping[str, Any] | None = None
) -> int:
    """Give records of a batch a batch of their own, in the caller's transaction; return it."""
    row = connection.execute(
        """
        insert into ledger.batch (feed, partner, state, token, run_id, mapping_version, staged_rows, verdict)
        select feed, partner, %s, token, run_id, mapping_version, 0, %s from ledger.batch where id = %s returning id
        """,
        (state, None if verdict is None else Jsonb(verdict), batch_id),
    ).fetchone()
    assert row is not None  # noqa: S101
    params = {"batch": batch_id, "records": list(records), "directory": sorted(DIRECTORY)}
    for statement in MOVE:
        connection.execute(statement.encode(), {**params, "apart": row[0]})
    return int(row[0])
