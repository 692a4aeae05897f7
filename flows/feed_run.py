"""One run of one feed: its claim, its ids, and what an earlier run left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from prefect.runtime import flow_run

from flows.connections import use_blocks
from tasks import log
from tasks.feed import Feed, load
from tasks.ledger import batches, claims, erased
from tasks.ledger.db import connect
from tasks.lineage.openlineage import of_feed, run_events
from tasks.publish.retract import due
from tasks.replay.run import mended
from tasks.settings import settings


@dataclass(frozen=True, slots=True)
class FeedRun:
    """A feed, the Prefect run's id, and the fencing token; None where another run holds the feed."""

    feed: Feed
    id: str
    token: int | None

    def left_over(self) -> list[int]:
        """Return batches that an earlier run staged and did not publish."""
        with connect(settings().warehouse_url) as connection:
            return batches.open_batches(connection, self.feed.name)

    def has_corrections(self) -> bool:
        """Say whether a corrected delivery waits for what only its predecessor said to be retracted."""
        with connect(settings().warehouse_url) as connection:
            return bool(due(connection, self.feed))

    def has_mended(self) -> bool:
        """Say whether records wait in quarantine that today's maps have not seen, and the feed wants them released."""
        with connect(settings().warehouse_url) as connection:
            return bool(mended(connection, self.feed, 1))

    def has_erased(self) -> bool:
        """Say whether bytes of erased patients wait to be blanked in landing."""
        with connect(settings().warehouse_url) as connection:
            return erased.is_due(connection)

    def nothing(self, why: str) -> dict[str, Any]:
        """Return the counts of a run that had nothing to do, and say why in the log."""
        log.get_logger().info("nothing done", why=why)
        return {"feed": self.feed.name, "skipped": why}


@contextmanager
def feed_run(name: str) -> Iterator[FeedRun]:
    """Claim the feed for this Prefect run and bind its ids to every log line."""
    log.configure()
    feed = load(name)
    use_blocks(feed)
    run_id = str(flow_run.id or "")
    config = settings()
    with structlog.contextvars.bound_contextvars(feed=name, run=run_id):
        try:
            with (
                claims.claim(config.warehouse_url, f"feed:{name}", run_id, config.lease_seconds) as token,
                run_events(f"ingest.{name}", run_id) as told,
            ):
                yield FeedRun(feed, run_id, token)
                if told.wanted:
                    with connect(config.warehouse_url) as connection:
                        of_feed(told, connection, name, run_id)
        except claims.Busy:
            yield FeedRun(feed, run_id, None)
