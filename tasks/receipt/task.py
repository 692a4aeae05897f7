"""The Prefect task of giving receipts."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import work
from tasks.feed import load
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.receipt.give import Giver
from tasks.settings import settings
from tasks.shell import RETRIES, guarded


@task(name="receipts", cache_policy=NO_CACHE, **RETRIES)
@guarded
def receipts(feed_name: str, run_id: str) -> int:
    """Give the feed's partner the receipts that are due; return how many, 0 where another run gives them now."""
    feed = load(feed_name)
    if feed.receipt is None:
        return 0
    config = settings()
    source: Any = work.source(feed)
    try:
        with (
            claims.claim(config.warehouse_url, f"receipts:{feed.name}", run_id, config.lease_seconds),
            connect(config.warehouse_url) as connection,
        ):
            return Giver(connection, feed, source, work.landing(), work.pipeline(feed.name)).give()
    except claims.Busy:
        return 0
    finally:
        source.close()
