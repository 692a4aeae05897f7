"""The flow that keeps the warehouse quick: partitions of the ledger and of core, pruning where the site asks for it."""

from __future__ import annotations

from prefect import flow

from tasks import log
from tasks.ledger.db import connect
from tasks.ledger.prune import ensure_partitions, prune
from tasks.publish.view_parts import divide_all
from tasks.settings import keep_days, settings


@flow(name="upkeep", persist_result=False)
def upkeep() -> dict[str, int]:
    """Make partitions, and prune what ended longer ago than `SLUICE_KEEP_DAYS`; return counts."""
    log.configure()
    days = keep_days()
    with connect(settings().warehouse_url) as connection:
        made = ensure_partitions(connection) + divide_all(connection)
        pruned = prune(connection, days) if days is not None else {}
    log.get_logger().info("upkeep", partitions=made, **pruned)
    return {"partitions": made, **pruned}
