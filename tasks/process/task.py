"""The Prefect tasks of landing and of processing (parse → convert → route → validate → staging, a batch a call)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import work
from tasks.feed import load
from tasks.ledger.db import connect
from tasks.process.drain import Drain
from tasks.process.land import Lander
from tasks.process.stage import Stager
from tasks.settings import settings
from tasks.shell import RETRIES, guarded


@task(name="land", cache_policy=NO_CACHE, **RETRIES)
@guarded
def land(feed_name: str, token: int, run_id: str) -> dict[str, int]:
    """Land what the feed's source offers now; return counts of landed, duplicate and correction."""
    feed = load(feed_name)
    source = work.source(feed)
    try:
        with connect(settings().warehouse_url) as connection:
            return dict(Lander(connection, feed, source, work.landing(), token, run_id, work.decrypt(feed)).land())
    finally:
        source.close()


@task(name="process", cache_policy=NO_CACHE, **RETRIES)
@guarded
def process(feed_name: str, token: int, run_id: str) -> dict[str, Any]:
    """Stage the next batch of the feed; return its id and counts, `read` false where nothing is unread."""
    config = settings()
    stager = Stager(load(feed_name), work.landing(), work.pipeline(feed_name))
    with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
        return asdict(stager.stage(reader, writer, token, config.batch_records, run_id))


@task(name="restore", cache_policy=NO_CACHE, **RETRIES)
@guarded
def restore(feed_name: str, batch_id: int, token: int) -> bool:
    """Stage an earlier run's batch again where a crash of Postgres took what was staged; say whether it had to."""
    config = settings()
    stager = Stager(load(feed_name), work.landing(), work.pipeline(feed_name))
    with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
        return stager.restore(reader, writer, batch_id, token)


@task(name="drain", cache_policy=NO_CACHE, persist_result=False)
@guarded
def drain_for(feed_names: list[str], seconds: float, run_id: str) -> dict[str, dict[str, int]]:
    """Take what listeners landed through every stage for some minutes; return counts by feed."""
    return Drain(feed_names, run_id).run(seconds)
