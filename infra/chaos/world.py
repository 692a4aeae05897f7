"""A site that can be disturbed: its feeds, runs of them in processes of their own, and what it became."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psutil
import psycopg

from infra.chaos import picture
from tasks import failpoints
from tasks.failpoints import Point

LEASE_SECONDS = 2
ROUNDS = 12
"""Runs after which a site that is left alone must have come to rest."""
RESTLESS = """
select 'outbox rows', count(*) from ledger.outbox where state = 'pending'
union all select 'batches', count(*) from ledger.batch where state in ('staged', 'stored')
union all select 'deliveries not landed', count(*) from ledger.delivery where state = 'landing'
union all select 'sources not told', count(*) from ledger.delivery where finished_at is null
union all select 'receipts', count(*) from ledger.delivery where receipt is not null and receipt_at is null
union all
select 'deliveries not read', count(*) from ledger.delivery d left join ledger.segment s on s.delivery_id = d.id
where d.state = 'landed' and (s.delivery_id is null or s.size > s.read_to)
"""


class Unrest(Exception):
    """A site did not come to rest by itself: something waits that no run takes."""


@dataclass
class World(ABC):
    """A site's environment and what the chaos needs of it.

    - `env` is what its processes get; `url` its warehouse, `server` (database, schema) its FHIR destination's store.
    """

    folder: Path
    feeds: tuple[str, ...]
    pushed: tuple[str, ...]
    env: dict[str, str]
    url: str
    server: tuple[str, str]
    began: list[ForkServerProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.points.mkdir(parents=True, exist_ok=True)
        self.env = {
            **self.env,
            "SLUICE_FAILPOINTS": str(self.points),
            "SLUICE_LEASE_SECONDS": str(LEASE_SECONDS),
        }

    @abstractmethod
    def given(self) -> Mapping[str, bytes]:
        """Return the receipts that partners were given, by their names."""

    @property
    def points(self) -> Path:
        """The folder in which failpoints are armed."""
        return self.folder / "failpoints"

    @property
    def log(self) -> Path:
        """The file in which the runs' output stands."""
        return self.folder / "runs.log"

    def arm(self, point: Point, action: Any, passes: int = 0) -> None:
        """Arm a failpoint for the next process that gets there."""
        failpoints.arm(self.points, point, action, passes)

    def disarm(self) -> None:
        """Take back what nobody got to, and forget who got where."""
        for path in self.points.iterdir():
            path.unlink(missing_ok=True)

    def begin(self, feed: str) -> ForkServerProcess:
        """Begin a run of a feed in a process of its own, which may be killed."""
        process: ForkServerProcess = _context(self.env).Process(
            target=_run, args=(feed, self.env, self.log), daemon=True
        )
        process.start()
        self.began.append(process)
        return process

    def run(self, feed: str, patience: float = 120) -> int:
        """Run a feed and return its exit code: 0, or 1 for an error that the next run must put right."""
        process = self.begin(feed)
        process.join(patience)
        if process.exitcode is None:
            raise Unrest(f"{feed}: a run did not end in {patience:g} s")
        self.began.remove(process)
        return process.exitcode

    def rest(self, feeds: Iterable[str] | None = None) -> int:
        """Run feeds until nothing waits any more; return how many runs it took. Raises `Unrest`."""
        names = list(feeds or self.feeds)
        for number in range(ROUNDS):
            for feed in names:
                self.run(feed)
            if not self.restless():
                return number + 1
            # what a destination did not take is due again a second later
            time.sleep(0.2)
        said = "\n".join(self.log.read_text().splitlines()[-12:])
        raise Unrest(f"after {ROUNDS} runs still wait: {self.restless()}; the runs said last:\n{said}")

    def restless(self) -> dict[str, int]:
        """Return how many deliveries, batches, receipts and outbox rows wait for somebody, by what they are."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            # a destination that was away is tried again now, not when its pause is over
            connection.execute("update ledger.outbox set next_at = now() where state = 'pending'")
            rows = connection.execute(RESTLESS).fetchall()
        return {name: number for name, number in rows if number}

    def picture(self) -> picture.Picture:
        """Return what the site has become."""
        parts = picture.of_warehouse(self.url, self.pushed)
        parts["server"] = picture.of_server(*self.server)
        parts["receipts"] = picture.of_receipts(self.given())
        return picture.Picture(parts)

    def close(self) -> None:
        """End what still runs."""
        for process in self.began:
            if process.pid and process.exitcode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)
                process.kill()
            process.join()
        self.began.clear()


def stopped(pid: int) -> bool:
    """Say whether a process stands still."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def wait_for(ready: Callable[[], Any], patience: float = 60) -> bool:
    """Wait until `ready()` holds; False where it does not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _context(env: Mapping[str, str]) -> Any:
    """Return processes that are forked from one that has everything imported and compiled for the feeds of `env`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["infra.chaos.plain"])
    before = dict(os.environ)
    os.environ.update(env)
    try:
        from multiprocessing import forkserver

        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def _run(feed: str, env: Mapping[str, str], log: Path) -> None:
    # the process was forked from one whose output is somebody else's
    with log.open("ab") as out:
        for number in (1, 2):
            os.dup2(out.fileno(), number)
    from infra.chaos import plain

    plain.main(feed, env)
