"""Which records stopped or are published, and what the ledger notes when that changes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.ledger.db import Connection
from tasks.pipeline import Done


@dataclass(frozen=True, slots=True)
class Stopped:
    """A record that stopped before the store; filtered where it is not quarantined."""

    record: int
    quarantined: bool


def lock(connection: Connection, feed: str, records: Sequence[int]) -> dict[int, Stopped]:
    """Hold records still that stopped before the store, and return them; the others are not in the answer."""
    rows = connection.execute(
        """
        select r.id, r.state from ledger.record r join ledger.delivery d on d.id = r.id >> 32
        left join ledger.quarantine q on q.record_id = r.id and q.ended_at is null
        where r.id = any(%s) and d.feed = %s
          and (r.state = 'filtered' or r.state = 'quarantined' and q.stage <> 'deliver')
        order by r.id for update of r
        """,
        (list(records), feed),
    ).fetchall()
    return {int(row[0]): Stopped(int(row[0]), row[1] == "quarantined") for row in rows}


def published(connection: Connection, feed: str, records: Sequence[int]) -> list[int]:
    """Hold records still that the store has, and return them."""
    rows = connection.execute(
        """
        select r.id from ledger.record r join ledger.batch b on b.id = r.batch_id
        where r.id = any(%s) and b.feed = %s and b.state in ('stored', 'published')
          and r.state is null and not exists (select from ledger.retracted t where t.record_id = r.id)
        order by r.id for update of r
        """,
        (list(records), feed),
    ).fetchall()
    return [int(row[0]) for row in rows]


def store_findings(connection: Connection, mapping_version: str, still: Mapping[int, Done]) -> None:
    """Note why records are still refused, and by which maps."""
    rows = []
    for record, done in still.items():
        found = done.conversion.findings
        worst = next(finding for finding in found if finding.severity == "error")
        listed = json.dumps([{"code": f.code, "location": f.location, "severity": f.severity} for f in found])
        rows.append((done.stage, worst.code, worst.location, listed, mapping_version, record))
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            update ledger.quarantine set stage = %s, code = %s, location = %s, findings = %s, mapping_version = %s
            where record_id = %s
            """,
            rows,
        )


def end(connection: Connection, records: Sequence[int], how: str, reason: str) -> None:
    """Note how records' quarantine ended."""
    connection.execute(
        """
        update ledger.quarantine set ended_at = now(), ended_as = %s, reason = %s
        where record_id = any(%s) and ended_at is null
        """,
        (how, reason, list(records)),
    )
