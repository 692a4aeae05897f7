"""The drain: what listeners land is taken through the same stages in small batches, as soon as it is there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import psycopg

from tasks import work
from tasks.feed import Feed, load
from tasks.gate.gate import decide, open_window
from tasks.gate.window import Window
from tasks.landing.store import Landing
from tasks.ledger import batches, claims, patients
from tasks.ledger.db import Connection, translate
from tasks.listen import metrics
from tasks.log import get_logger
from tasks.process.stage import Stager
from tasks.publish.retract import due, retract
from tasks.publish.store import publish
from tasks.publish.tables import refresh
from tasks.settings import settings

STOP = threading.Event()
"""Set by a process that wants its drain to end after the batch at hand."""
WORKING = threading.Event()
"""Set while this process holds its feeds' claims and Postgres answers: what `/readyz` says."""
PAUSE = 0.2
"""Seconds between looks where nothing has come."""
WINDOW = 900.0
"""Seconds that a feed's checks look back: a batch of the drain is too small to say anything alone."""


@dataclass(slots=True)
class FeedDrain:
    """One feed under one claim."""

    feed: Feed
    token: int
    run_id: str
    stager: Stager
    window: Window
    counts: Counter[str] = field(default_factory=Counter)

    def recover(self, reader: Connection, writer: Connection) -> None:
        """Stage again what a crash of Postgres took of batches that are staged or held."""
        for state in ("staged", "held"):
            for batch_id in batches.open_batches(reader, self.feed.name, state):
                self.stager.restore(reader, writer, batch_id, self.token)

    def round(self, reader: Connection, writer: Connection, limit: int) -> bool:
        """Take one batch as far as it goes; say whether there was anything to do."""
        patients.let_go(writer, self.feed.name, self.token)
        left = batches.open_batches(reader, self.feed.name)
        for batch_id in left:
            self._finish(writer, batch_id)
        began = time.monotonic()
        staged = self.stager.stage(reader, writer, self.token, limit, self.run_id)
        self.counts.update(received=staged.received, quarantined=staged.quarantined, duplicate=staged.duplicate)
        if staged.batch_id is not None:
            metrics.RECORDS.labels(self.feed.name, "received").inc(staged.received)
            metrics.RECORDS.labels(self.feed.name, "quarantined").inc(staged.quarantined)
            metrics.RECORDS.labels(self.feed.name, "duplicate").inc(staged.duplicate)
            self._finish(writer, staged.batch_id)
            metrics.BATCH_SECONDS.labels(self.feed.name).observe(time.monotonic() - began)
        return staged.read or bool(left)

    def _finish(self, writer: Connection, batch_id: int) -> None:
        """Hold back who waits, look, publish."""
        if patients.hold_back(writer, batch_id, self.token) is not None:
            self.counts["held"] += 1
        verdict = decide(writer, self.feed, batch_id, self.token, self.window)
        if verdict.get("waits"):
            return
        get_logger(feed=self.feed.name, batch=batch_id).info("gate", passed=verdict["passed"])
        if verdict["passed"]:
            publish(writer, batch_id, self.token, refresh, self.run_id)
            self.window.published()
            self.counts["batches"] += 1
        else:
            self.counts["held"] += 1
        held = batches.open_batches(writer, self.feed.name, "held")
        metrics.HELD.labels(self.feed.name).set(len(held))
        for delivery in due(writer, self.feed):
            retract(writer, self.feed, delivery, self.token, refresh=refresh, run_id=self.run_id)


@dataclass(frozen=True, slots=True)
class Drain:
    """Several feeds that are drained side by side by one process."""

    feeds: Sequence[str]
    run_id: str
    landing: Landing = field(default_factory=work.landing)

    def run(self, seconds: float, stopped: Callable[[], bool] = STOP.is_set) -> dict[str, dict[str, int]]:
        """Drain for so long or until told to stop; return counts by feed.

        Raises `Busy` where another run works on one of the feeds, `LeaseLost` where one has taken over, `Transient`
        where Postgres does not answer.
        """
        config = settings()
        with ExitStack() as stack:
            tokens = {
                name: stack.enter_context(
                    claims.claim(config.warehouse_url, f"feed:{name}", self.run_id, config.lease_seconds)
                )
                for name in self.feeds
            }
            drains: list[FeedDrain] = []
            try:
                with (
                    psycopg.connect(config.warehouse_url, autocommit=True, connect_timeout=10) as reader,
                    psycopg.connect(config.warehouse_url, autocommit=True, connect_timeout=10) as writer,
                ):
                    drains += [self._drain(writer, name, token) for name, token in tokens.items()]
                    until = time.monotonic() + seconds
                    WORKING.set()
                    _loop(drains, reader, writer, lambda: stopped() or time.monotonic() > until)
            except psycopg.Error as error:
                raise translate(error) from None
            finally:
                WORKING.clear()
        return {drain.feed.name: dict(drain.counts) for drain in drains}

    def _drain(self, writer: Connection, name: str, token: int) -> FeedDrain:
        feed = load(name)
        stager = Stager(feed, self.landing, work.pipeline(name))
        return FeedDrain(feed, token, self.run_id, stager, open_window(writer, feed, WINDOW))


def _loop(drains: Sequence[FeedDrain], reader: Connection, writer: Connection, stopped: Callable[[], bool]) -> None:
    limit = settings().batch_records
    for drain in drains:
        drain.recover(reader, writer)
    while not stopped():
        worked = [drain.round(reader, writer, limit) for drain in drains]
        for drain in drains:
            metrics.LAG_SECONDS.labels(drain.feed.name).set(_lag(reader, drain.feed.name))
        if not any(worked):
            time.sleep(PAUSE)


def _lag(connection: Connection, feed: str) -> float:
    """The age in seconds of the oldest message that was landed and not read."""
    row = connection.execute(
        """
        select coalesce(max(extract(epoch from now() - a.at)), 0)::float from ledger.segment s
        join ledger.delivery d on d.id = s.delivery_id and d.state = 'landed' and d.feed = %s
        cross join lateral (
            select at from ledger.arrival a where a.delivery_id = s.delivery_id and a.start >= s.read_to
            order by a.start limit 1
        ) a
        where s.size > s.read_to
        """,
        (feed,),
    ).fetchone()
    return float(row[0]) if row else 0.0
