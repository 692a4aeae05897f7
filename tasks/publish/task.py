"""The Prefect tasks of publishing."""

from __future__ import annotations

from dataclasses import asdict

from prefect import task
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE

from tasks.feed import load
from tasks.ledger.db import connect
from tasks.publish.retract import due
from tasks.publish.retract import retract as retract_delivery
from tasks.publish.store import publish as publish_batch
from tasks.publish.tables import refresh
from tasks.settings import settings
from tasks.shell import RETRIES, guarded


@materialize("sluice://warehouse", name="publish", cache_policy=NO_CACHE, **RETRIES)
@guarded
def publish(batch_id: int, token: int, run_id: str) -> dict[str, int]:
    """Publish a staged batch in one transaction; return counts of created, changed, unchanged and queued."""
    with connect(settings().warehouse_url) as connection:
        return asdict(publish_batch(connection, batch_id, token, refresh, run_id))


@task(name="retract", cache_policy=NO_CACHE, **RETRIES)
@guarded
def retract(feed_name: str, token: int, run_id: str) -> dict[str, int]:
    """Retract what only corrected deliveries' predecessors said; return how many resources changed by delivery."""
    feed = load(feed_name)
    with connect(settings().warehouse_url) as connection:
        return {
            str(delivery): retract_delivery(connection, feed, delivery, token, refresh=refresh, run_id=run_id)
            for delivery in due(connection, feed)
        }
