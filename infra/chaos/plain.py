"""One run of a feed in one process, as the flow does it, without an orchestrator: quick to start, kill and freeze."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from tasks import failpoints, log, work
from tasks.deliver.drain import drain as drain_outbox
from tasks.destinations import open_destination
from tasks.errors import SluiceError
from tasks.feed import Feed, feed_files, load
from tasks.gate.gate import decide
from tasks.ledger import batches, claims, deliveries
from tasks.ledger.db import connect
from tasks.process.drain import Drain
from tasks.process.land import Lander
from tasks.process.stage import Staged, Stager
from tasks.publish.retract import due, retract
from tasks.publish.store import publish
from tasks.publish.tables import refresh
from tasks.receipt.give import Giver
from tasks.settings import failpoints_folder, settings

RUN = "chaos"
PUSHED = ("mllp", "http")
DRAIN_SECONDS = 60

for _name in feed_files():
    # a fork server that imports this module has the maps compiled before it forks
    work.pipeline(_name)


def main(feed_name: str, env: Mapping[str, str]) -> None:
    """Run a feed in a forked process; its exit code says whether it came to its end."""
    os.environ.update(env)
    failpoints.watch(failpoints_folder())
    log.configure()
    try:
        run(load(feed_name))
    except SluiceError as error:
        raise SystemExit(f"{feed_name}: {type(error).__name__}: {error}") from None


def run(feed: Feed) -> None:
    """Take what is there through every stage and to every destination; nothing where another run has the feed."""
    try:
        if feed.source.kind in PUSHED:
            Drain([feed.name], RUN).run(DRAIN_SECONDS, lambda: _drained(feed.name))
        else:
            with claims.claim(settings().warehouse_url, f"feed:{feed.name}", RUN, settings().lease_seconds) as token:
                take(feed, token)
        for destination in feed.destinations:
            _deliver(destination)
        _receipts(feed)
    except claims.Busy:
        log.get_logger(feed=feed.name).info("busy")


def take(feed: Feed, token: int) -> None:
    """Land, stage, gate and publish what a feed offers, and what an earlier run left."""
    config = settings()
    source = work.source(feed)
    stager = Stager(feed, work.landing(), work.pipeline(feed.name))
    try:
        with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
            Lander(writer, feed, source, work.landing(), token, RUN, work.decrypt(feed)).land()
            for batch_id in batches.open_batches(reader, feed.name):
                stager.restore(reader, writer, batch_id, token)
                _publish(feed, batch_id, token)
            for batch_id in _staged(stager, token):
                _publish(feed, batch_id, token)
            for delivery in due(writer, feed):
                retract(writer, feed, delivery, token, refresh=refresh, run_id=RUN)
    finally:
        source.close()


def _staged(stager: Stager, token: int) -> Iterator[int]:
    """Yield batch after batch, the next one being staged while the last is published, as the flow does it."""
    config = settings()

    def stage() -> Staged:
        with connect(config.warehouse_url) as reader, connect(config.warehouse_url) as writer:
            return stager.stage(reader, writer, token, config.batch_records, RUN)

    # the pool's end waits for who still works under the claim
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(stage)
        while (staged := ahead.result()).read:
            ahead = pool.submit(stage)
            if staged.batch_id is not None:
                yield staged.batch_id


def _publish(feed: Feed, batch_id: int, token: int) -> None:
    with connect(settings().warehouse_url) as connection:
        if decide(connection, feed, batch_id, token)["passed"]:
            publish(connection, batch_id, token, refresh, RUN)


def _drained(feed: str) -> bool:
    with connect(settings().warehouse_url) as connection:
        return not deliveries.unread(connection, feed) and not batches.open_batches(connection, feed)


def _deliver(name: str) -> None:
    config = settings()
    destination = open_destination(name)
    try:
        with (
            claims.claim(config.warehouse_url, f"destination:{name}", RUN, config.lease_seconds),
            connect(config.warehouse_url) as connection,
        ):
            drain_outbox(connection, name, destination)
    finally:
        destination.close()


def _receipts(feed: Feed) -> None:
    if feed.receipt is None:
        return
    config = settings()
    source = work.source(feed)
    try:
        with (
            claims.claim(config.warehouse_url, f"receipts:{feed.name}", RUN, config.lease_seconds),
            connect(config.warehouse_url) as connection,
        ):
            Giver(connection, feed, source, work.landing(), work.pipeline(feed.name)).give()  # type: ignore[arg-type]
    finally:
        source.close()
