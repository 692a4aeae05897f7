"""The watcher: one cheap process that polls every feed often and starts a run only when there is something to take.

It lands nothing: a run that it starts polls again. What it sees counts as seen in the ledger, so that a file which is
ready after two looks is ready after two of the watcher's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg

from tasks import work
from tasks.errors import SluiceError
from tasks.feed import Feed
from tasks.ledger.db import Connection
from tasks.ledger.source_state import LedgerState
from tasks.listen import metrics
from tasks.log import get_logger
from tasks.source.files import FileSource
from tasks.source.port import Source

PATIENCE = 120.0
"""Seconds in which a run that was started should have claimed its feed; after that another one may be started."""
LONGEST_PAUSE = 300.0
LONGEST_GAP = 30.0
"""Seconds between two runs of a feed that has something every time."""
STANDSTILL = 60.0
"""Seconds without a look after which the watcher is not ready."""
THREADS = 8
KNOWN = 200_000
"""Landed files of a feed that are remembered without asking the ledger."""

WAITING = """
select feed from ledger.batch where state = 'staged' and feed = any(%(feeds)s)
union
select d.feed from ledger.delivery d left join ledger.segment s on s.delivery_id = d.id
where d.state = 'landed' and d.feed = any(%(feeds)s) and s.delivery_id is null
union
select feed from ledger.notice where feed = any(%(feeds)s)
"""
CLAIMS = "select substr(name, 6), token, lease_until > now() from ledger.claim where name like 'feed:%'"

Start = Callable[[str], object]


class KnownState(LedgerState):
    """The ledger's state, asked once of what has been landed: that does not change any more."""

    def __init__(self, connection: Connection, feed: str, known: set[tuple[str, str]]) -> None:
        super().__init__(connection, feed)
        self.known = known

    def landed(self, name: str, version: str) -> bool:
        """Say whether this version of `name` has been landed already."""
        if (name, version) not in self.known and not super().landed(name, version):
            return False
        if len(self.known) < KNOWN:
            self.known.add((name, version))
        return True


@dataclass(slots=True)
class Watched:
    """A feed and what the watcher knows of it."""

    feed: Feed
    source: Source | None = None
    due: float = 0.0
    failures: int = 0
    started_at: float = float("-inf")
    token: int = 0
    starts: int = 0
    polling: Future[bool] | None = None
    known: set[tuple[str, str]] = field(default_factory=set)

    def poll(self, connection: Connection) -> bool:
        """Say whether the source offers anything; raises `SluiceError`."""
        if not is_polled(self.feed):
            return False
        if self.source is None:
            self.source = work.source(self.feed)
        offers = self.source.poll(KnownState(connection, self.feed.name, self.known))
        return next(offers, None) is not None

    def give_up(self) -> None:
        """Close the source; the next poll opens it anew."""
        if self.source is not None:
            with suppress(SluiceError, OSError):
                self.source.close()
        self.source = None


def is_watched(feed: Feed) -> bool:
    """Say whether the watcher looks after the feed: a look is cheap, or a listener is told of what there is."""
    return is_polled(feed) or getattr(feed.source, "subscribe", None) is not None


def is_polled(feed: Feed) -> bool:
    """Say whether a look at the feed's source is cheap: files are listed, whereas an export would have to be begun."""
    from tasks import registry

    kind = registry.find("sources", feed.source.kind)
    by_the_clock = feed.schedule is not None and feed.schedule.cron is not None
    return not by_the_clock and (issubclass(kind, FileSource) or bool(getattr(kind, "cheap_poll", False)))


class Watcher:
    """Polls feeds every so many seconds, several at once; `start` starts a feed's run."""

    def __init__(self, feeds: Sequence[Feed], url: str, start: Start, every: float = 5.0) -> None:
        self.watched = {feed.name: Watched(feed) for feed in feeds}
        self.every = every
        self.start = start
        self._url = url
        self._connection: Connection | None = None
        self._pool = ThreadPoolExecutor(THREADS, "watch")
        self._ticked = float("-inf")

    @property
    def ready(self) -> bool:
        """Whether the feeds were looked after a moment ago: not while Postgres is away, nor after a standstill."""
        return time.monotonic() - self._ticked < STANDSTILL

    def run(self, stopped: Callable[[float], bool]) -> None:
        """Watch until `stopped`, which waits for so many seconds, says so."""
        try:
            while not stopped(min(self.every, 1.0)):
                self.tick()
        finally:
            self.close()

    def tick(self, *, wait: bool = False) -> list[str]:
        """Poll what is due and start what has something to take; return the feeds whose run was started.

        A poll that takes long is looked at in a later tick, unless told to `wait`.
        """
        try:
            started = self._tick(wait=wait)
        except psycopg.Error as error:
            self._ticked = float("-inf")
            get_logger().warning("the watcher waits for Postgres", sqlstate=error.sqlstate)
            self._drop_connection()
            return []
        self._ticked = time.monotonic()
        return started

    def close(self) -> None:
        """End the polls and close every source."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for one in self.watched.values():
            one.give_up()
        self._drop_connection()

    def _tick(self, *, wait: bool) -> list[str]:
        connection = self._connect()
        now = time.monotonic()
        claims = {name: (int(token), bool(held)) for name, token, held in connection.execute(CLAIMS).fetchall()}
        names = list(self.watched)
        ready = {str(row[0]) for row in connection.execute(WAITING, {"feeds": names}).fetchall()}
        free = [one for one in self.watched.values() if self._is_free(one, claims, now)]
        for one in free:
            if one.polling is None and one.due <= now:
                one.due = now + self.every
                one.polling = self._pool.submit(one.poll, connection)
        for one in free:
            if one.polling is not None and (wait or one.polling.done()):
                if self._found(one, now):
                    ready.add(one.feed.name)
                elif one.feed.name not in ready:
                    one.starts = 0
        return [one.feed.name for one in free if one.feed.name in ready and self._start(one, claims, now)]

    def _found(self, one: Watched, now: float) -> bool:
        """Take a poll's result; a source that fails is asked again after a pause that grows."""
        polling, one.polling = one.polling, None
        assert polling is not None  # noqa: S101
        name = one.feed.name
        try:
            found = polling.result()
        except (SluiceError, psycopg.Error) as error:
            one.failures += 1
            one.due = now + min(self.every * 2**one.failures, LONGEST_PAUSE)
            one.give_up()
            metrics.POLLS.labels(name, "error").inc()
            get_logger(feed=name).warning("poll failed", kind=type(error).__name__, failures=one.failures)
            if isinstance(error, psycopg.Error):
                raise
            return False
        one.failures = 0
        metrics.POLLS.labels(name, "something" if found else "nothing").inc()
        return found

    def _is_free(self, one: Watched, claims: Mapping[str, tuple[int, bool]], now: float) -> bool:
        """Say whether a run may be started: none is at work, and the one that was started has been and gone."""
        token, held = claims.get(one.feed.name, (0, False))
        if held:
            return False
        since = now - one.started_at
        # what is there again and again after a run may be what the run cannot take
        pause = min(self.every * 2**one.starts, LONGEST_GAP)
        return (token > one.token and since >= pause) or since > PATIENCE

    def _start(self, one: Watched, claims: Mapping[str, tuple[int, bool]], now: float) -> bool:
        name = one.feed.name
        try:
            self.start(name)
        except SluiceError as error:
            get_logger(feed=name).error("run not started", why=str(error))
            one.due = now + LONGEST_PAUSE
            return False
        one.starts = min(one.starts + 1, 10)
        one.started_at, one.token = now, claims.get(name, (0, False))[0]
        metrics.STARTED.labels(name).inc()
        get_logger(feed=name).info("run started")
        return True

    def _connect(self) -> Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=10, application_name="sluice watch"
            )
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
