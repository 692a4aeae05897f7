"""The flow that looks for what did not come: late, missing, too small or too large deliveries of every feed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event

from tasks import log
from tasks.errors import ConfigError
from tasks.expected import Missed
from tasks.feed import Feed, good_feeds
from tasks.ledger import expectations
from tasks.ledger.db import Connection, connect
from tasks.settings import settings


@flow(name="expect", persist_result=False)
def expect() -> dict[str, int]:
    """Hold every feed's `expect:` against the ledger; tell what is news as ledger event, Prefect event and artifact."""
    log.configure()
    now = datetime.now(UTC)
    found: list[Missed] = []
    news = 0
    with connect(settings().warehouse_url) as connection:
        for feed in _feeds():
            expectations.begin(connection, feed.name, now)
            wrong = expectations.not_as_expected(connection, feed, now)
            news += sum(_tell(connection, one) for one in wrong)
            found += wrong
    if found:
        rows: list[dict[str, Any]] = [expectations.as_row(one) for one in found]
        create_table_artifact(rows, key="sluice-late", description=f"{len(found)} not as expected, {news} of them new")
    return {"found": len(found), "new": news}


def _feeds() -> list[Feed]:
    """Every feed that expects something; a feed file with a mistake keeps none of the others waiting."""

    def tell(name: str, error: ConfigError) -> None:
        log.get_logger(feed=name).error("feed file has mistakes", mistakes=len(error.problems))

    return [feed for feed in good_feeds(tell) if feed.expect is not None]


def _tell(connection: Connection, one: Missed) -> bool:
    with connection.transaction():
        if not expectations.note(connection, one):
            return False
        # before the commit: what was told and not noted is told again, what was noted and not told never would be
        emit_event(
            event=f"sluice.feed.{one.kind}",
            resource={"prefect.resource.id": f"sluice.feed.{one.feed}", "prefect.resource.name": one.feed},
            payload=expectations.as_row(one),
        )
    log.get_logger(feed=one.feed).warning("not as expected", kind=one.kind, day=one.day.isoformat())
    return True
