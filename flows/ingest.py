"""The main flow: what a partner dropped becomes rows in the warehouse and resources at its destinations."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows import show
from flows.feed_run import FeedRun, feed_run
from tasks.dispatch.task import deliver
from tasks.erase.task import finish_erasures
from tasks.gate.task import gate
from tasks.process.task import land, process, restore
from tasks.publish.task import publish, retract
from tasks.receipt.task import receipts
from tasks.replay.task import release


@flow(name="ingest", flow_run_name="{feed}", persist_result=False)
def ingest(feed: str) -> dict[str, Any]:
    """Poll one feed once and take what is there through every stage; return the ledger's counts of this run."""
    with feed_run(feed) as run:
        if run.token is None:
            return run.nothing("another run is working on this feed")
        landed = land(feed, run.token, run.id)
        _batches(run)
        sent = [
            deliver.with_options(**show.delivered(destination, feed))(destination, run.id, return_state=True)
            for destination in run.feed.destinations
        ]
        counts = show.summary(run, landed)
        receipts(feed, run.id)
        for state in sent:
            # one that cannot be written to fails the run, after the others have got theirs
            state.result()
        return counts


def _batches(run: FeedRun) -> None:
    """What an earlier run staged first, then batch after batch until nothing is unread."""
    assert run.token is not None  # noqa: S101
    progress = show.Progress(run)
    for batch_id in run.left_over():
        restore(run.feed.name, batch_id, run.token)
        _publish_if_good(run, batch_id)
    ahead = process.submit(run.feed.name, run.token, run.id)
    try:
        while (staged := ahead.result())["read"]:
            # one batch ahead: Python converts the next while Postgres publishes this one
            ahead = process.submit(run.feed.name, run.token, run.id)
            progress.read(staged)
            if staged["batch_id"] is not None:
                _publish_if_good(run, staged["batch_id"])
    finally:
        # the claim is given back only when nobody works under it any more
        ahead.wait()
    progress.done()
    for batch_id in run.left_over():
        # parts of deliveries that are judged whole, which wait until all of those is staged
        _publish_if_good(run, batch_id)
    if run.has_mended():
        release(run.feed.name, run.token, run.id)
    if run.has_corrections():
        retract(run.feed.name, run.token, run.id)
    if run.has_erased():
        finish_erasures()


def _publish_if_good(run: FeedRun, batch_id: int) -> None:
    assert run.token is not None  # noqa: S101
    verdict = gate(run.feed.name, batch_id, run.token)
    if verdict.get("waits"):
        return
    show.verdict(run, batch_id, verdict)
    if verdict["passed"]:
        publish.with_options(**show.assets(run.feed.name))(batch_id, run.token, run.id)
