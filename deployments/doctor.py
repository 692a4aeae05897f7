"""`sluice doctor`: the ledger's invariant, what waits, and the stack."""

from __future__ import annotations

from typing import Any

from tasks import work
from tasks.errors import SluiceError
from tasks.feed import feed_files
from tasks.ledger import audit
from tasks.ledger.db import Connection, connect
from tasks.settings import settings, state_folder

CHECKS = {
    "every delivery's counts equal its records": "select delivery_id from ops.invariant limit 20",
    "received = published + quarantined + duplicate + filtered + discarded + in flight": """
        select id from ops.delivery
        where received <> published + quarantined + duplicate + filtered + discarded + in_flight limit 20
    """,
    "every quarantined record stands in the quarantine": """
        select r.id from ledger.record r left join ledger.quarantine q on q.record_id = r.id and q.ended_at is null
        where r.state = 'quarantined' and q.record_id is null limit 20
    """,
    "no batch waits for what is not in the outbox": """
        select b.id from ledger.batch b where b.state = 'stored'
          and not exists (select from ledger.outbox o where o.state = 'pending' and b.id = any(o.batches)) limit 20
    """,
    "every current version came from a record": """
        select v.id from fhir.resource v left join ledger.record r on r.id = v.record_id
        left join ledger.delivery d on d.id = v.record_id >> 32 and v.record_id & 4294967295 = 0
        where r.id is null and d.id is null limit 20
    """,
    "nothing that has ended is still in quarantine": """
        select q.record_id from ledger.quarantine q join ledger.record r on r.id = q.record_id
        where q.ended_at is null and r.state is distinct from 'quarantined' limit 20
    """,
    "every held batch says why": """
        select id from ledger.batch where state = 'held' and verdict is null limit 20
    """,
    "nothing is staged for a batch that has ended": """
        select distinct s.batch_id from staging.resource s join ledger.batch b on b.id = s.batch_id
        where b.state not in ('staged', 'held') limit 20
    """,
}


UNENDED = """
select distinct feed from ledger.batch where state in ('staged', 'held')
union select distinct feed from ledger.delivery where state = 'landed' order by 1
"""
"""Feeds of which somebody has to go on: their next run, or an operator."""


def examine() -> list[dict[str, Any]]:
    """Return one row a check: what was checked, whether it is good, and ids of what is not."""
    return [*_ledger(), *_services()]


def _ledger() -> list[dict[str, Any]]:
    try:
        config = settings()
        work.landing()
        with connect(config.warehouse_url) as connection:
            asked = [_ask(connection, name, query) for name, query in CHECKS.items()]
            return [*asked, _feeds(connection), _trail(connection)]
    except SluiceError as error:
        return [{"check": "settings and Postgres", "good": False, "detail": str(error)}]


def _ask(connection: Connection, name: str, query: str) -> dict[str, Any]:
    wrong = [str(row[0]) for row in connection.execute(query.encode()).fetchall()]
    return {"check": name, "good": not wrong, "detail": ", ".join(wrong)}


def _feeds(connection: Connection) -> dict[str, Any]:
    gone = [name for (name,) in connection.execute(UNENDED.encode()).fetchall() if name not in feed_files()]
    check = "whatever has not ended is of a feed that has its file"
    return {"check": check, "good": not gone, "detail": ", ".join(gone)}


def _trail(connection: Connection) -> dict[str, Any]:
    verified = audit.verify(connection)
    return {"check": "the audit trail is whole", "good": not verified.problems, "detail": "; ".join(verified.problems)}


def _services() -> list[dict[str, Any]]:
    """The embedded stack's services, where it is up."""
    if not (state_folder() / "environment.json").is_file():
        return []
    from infra.dev.stack import Stack

    return [
        {"check": f"{row['service']} answers", "good": row["answers"], "detail": "" if row["answers"] else "sluice up"}
        for row in Stack().status()
    ]
