"""The flow that lets one destination catch up, at its own pace and beside every feed's runs."""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows import show
from flows.connections import use_block, use_blocks
from tasks import log
from tasks.destinations import read
from tasks.dispatch.task import deliver
from tasks.erase.task import finish_erasures
from tasks.feed import feed_files, load
from tasks.ledger.db import connect
from tasks.ledger.erased import is_due
from tasks.ledger.receipts import feeds_due
from tasks.lineage.openlineage import run_events, warehouse
from tasks.receipt.task import receipts
from tasks.settings import settings


@flow(name="deliver", flow_run_name="{destination}", persist_result=False)
def deliver_all(destination: str) -> dict[str, int]:
    """Send a destination everything that it does not have yet and that is due; return counts by status.

    Deliveries that waited for it may have ended with that: their partners get their receipts.
    """
    log.configure()
    use_block(read(destination)[1].connection or destination)
    run_id = str(flow_run.id or "")
    with run_events(f"deliver.{destination}", run_id) as told:
        shown = show.delivered(destination, *show.routed_to(destination))
        counts = deliver.with_options(**shown)(destination, run_id)
        told.inputs = [(*warehouse(), sum(counts.values()), None)] if told.wanted else []
        told.destinations = {destination: counts.get("sent", 0)}
    for feed in _feeds_due():
        use_blocks(load(feed))
        # a partner's folder that cannot be written to is that feed's failure, not the destination's
        receipts(feed, run_id, return_state=True)
    if _erasing():
        finish_erasures()
    return counts


def _erasing() -> bool:
    with connect(settings().warehouse_url) as connection:
        return is_due(connection)


def _feeds_due() -> list[str]:
    with connect(settings().warehouse_url) as connection:
        return [name for name in feeds_due(connection) if name in feed_files()]
