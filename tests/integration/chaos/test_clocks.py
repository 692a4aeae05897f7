"""A worker's and Postgres' clocks, ten minutes off and going back: leases go by one clock, the end is a calm run's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import psycopg
import pytest
from clocks import Clock, clock
from drops import Site, site_on

from infra.chaos.picture import Picture
from infra.chaos.workload import Round, rounds
from infra.chaos.world import LEASE_SECONDS, stopped, wait_for
from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade
from tasks.failpoints import taken
from tasks.ledger.db import connect
from tasks.publish.tables import apply
from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

HL7 = "northside.hl7"
TEN_MINUTES = 600
RUN = "import os, sys; from infra.chaos import plain; plain.main(sys.argv[1], os.environ)"


@pytest.fixture
def sent() -> list[Round]:
    return list(islice(rounds(11, ("hl7",)), 3))


@pytest.fixture
def wanted(sites: Callable, sent: list[Round]) -> Picture:
    """What the files become where nothing happens."""
    calm = sites("calm")
    for one in sent:
        calm.drop(one)
        calm.rest([HL7])
    picture = calm.picture()
    assert picture.size > 200
    assert picture.parts["receipts"]
    return picture


def ask(site: Site, query: str):
    with psycopg.connect(site.url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


# -- the workers' clocks --------------------------------------------------------------------------------------------


@contextmanager
def worker(site: Site, mine: Clock, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """A run of the feed in a process whose clock is so many seconds off."""
    mine.put(seconds)
    env = {**os.environ, **site.env, **mine.env, "PYTHONPATH": str(PROJECT)}
    with site.log.open("ab") as log, subprocess.Popen([sys.executable, "-c", RUN, HL7], env=env, stderr=log) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_shim_shifts_what_a_process_takes_for_the_time() -> None:
    with clock() as mine:
        for seconds in (TEN_MINUTES, -TEN_MINUTES, 0):
            mine.put(seconds)
            said = subprocess.run(
                [sys.executable, "-c", "import time, datetime as d; print(time.time(), d.datetime.now().timestamp())"],
                env={**os.environ, **mine.env}, capture_output=True, check=True,
            ).stdout.split()  # fmt: skip
            assert all(abs(float(one) - time.time() - seconds) < 60 for one in said)


def test_workers_with_clocks_ten_minutes_apart_take_over_from_each_other_and_change_nothing(
    sites: Callable, sent: list[Round], wanted: Picture
) -> None:
    """One ahead is killed, one behind sleeps past its lease, one ahead takes over: then the sleeper wakes up."""
    site = sites("chaos")
    first, second, third = sent
    with clock() as ahead, clock() as behind:
        site.drop(first)
        site.arm("staged", "kill")
        with worker(site, ahead, TEN_MINUTES) as one:
            assert one.wait(120) == -signal.SIGKILL
        site.disarm()
        site.arm("before-commit", "freeze")
        with worker(site, behind, -TEN_MINUTES) as asleep:
            assert wait_for(lambda: taken(site.points, "before-commit") and stopped(asleep.pid))
            [(left,)] = ask(site, "select extract(epoch from max(lease_until) - now())::float from ledger.claim")
            assert abs(left) < 60, "a lease is Postgres' word, whatever the worker takes for the time"
            time.sleep(LEASE_SECONDS + 0.5)
            with worker(site, ahead, TEN_MINUTES) as other:
                assert other.wait(120) == 0
            assert ask(site, "select distinct state from ledger.batch") == [("published",)]
            os.kill(asleep.pid, signal.SIGCONT)
            assert asleep.wait(120) != 0, "it finds that another has gone on"
        site.disarm()
        site.rest([HL7])
        for one, seconds in ((second, TEN_MINUTES), (third, -TEN_MINUTES)):
            site.drop(one)
            with worker(site, ahead, seconds) as run:
                assert run.wait(120) == 0
            site.rest([HL7])
    assert site.picture().differences(wanted) == []


# -- Postgres' clock ------------------------------------------------------------------------------------------------


@pytest.fixture
def moved(
    wanted: Picture, server: tuple[str, str], feeds, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Site, Clock]]:
    """A site whose Postgres has a clock of its own; the calm one has been looked at before."""
    with clock() as mine:
        with monkeypatch.context() as patched:
            for name, value in mine.env.items():
                patched.setenv(name, value)
            postgres = scratch_postgres(durable=False)
            url = postgres.__enter__()
        try:
            upgrade(url)
            with connect(url) as connection:
                apply(connection)
            with psycopg.connect(server[0], autocommit=True) as admin:
                admin.execute("truncate ehr.version cascade")
            site = site_on(tmp_path / "moved", url, feeds, server)
            yield site, mine
            site.close()
        finally:
            postgres.__exit__(None, None, None)


def off(site: Site) -> float:
    [(now,)] = ask(site, "select extract(epoch from now())::float")
    return now - time.time()


def test_postgres_clock_going_back_takes_no_claim_from_the_living_and_keeps_none_for_the_dead(
    moved: tuple[Site, Clock], sent: list[Round], wanted: Picture
) -> None:
    site, its = moved
    its.put(TEN_MINUTES)
    assert abs(off(site) - TEN_MINUTES) < 60
    site.drop(sent[0])
    site.arm("gated", "freeze")
    asleep = site.begin(HL7)
    assert wait_for(lambda: stopped(asleep.pid))
    its.put(0)
    assert abs(off(site)) < 60
    assert site.run(HL7) == 0, "the lease ends ten minutes later now: who holds it is waited for"
    assert ask(site, "select count(*), min(state) from ledger.batch") == [(1, "staged")]
    os.kill(asleep.pid, signal.SIGCONT)
    asleep.join(60)
    assert asleep.exitcode == 0, "and it goes on, as the one that holds the claim"
    site.disarm()
    site.rest([HL7])
    its.put(TEN_MINUTES)
    site.drop(sent[1])
    site.arm("staged", "kill")
    assert site.run(HL7) == -signal.SIGKILL
    its.put(-TEN_MINUTES)
    assert site.run(HL7) == 0
    assert ask(site, "select count(*) from ledger.batch where state = 'staged'") == [(0,)], "not held up by the dead"
    site.rest([HL7])
    site.drop(sent[2])
    site.rest([HL7])
    assert site.picture().differences(wanted) == []


def test_postgres_clock_jumping_ahead_ends_every_lease_and_still_nothing_is_done_twice(
    moved: tuple[Site, Clock], sent: list[Round], wanted: Picture
) -> None:
    site, its = moved
    for one, point in zip(sent, ("landed", "staged", "before-commit"), strict=True):
        site.drop(one)
        site.arm(point, "freeze")
        asleep = site.begin(HL7)
        assert wait_for(lambda asleep=asleep: stopped(asleep.pid))
        its.put(TEN_MINUTES)
        site.rest([HL7])
        os.kill(asleep.pid, signal.SIGCONT)
        asleep.join(60)
        assert asleep.exitcode is not None
        site.disarm()
        its.put(0)
        site.rest([HL7])
    assert site.picture().differences(wanted) == []
