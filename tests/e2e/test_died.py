"""Runs whose process died, whose worker died with it, or whose server went away: who sees it, and how it goes on.

Each on a stack as `make chaos` uses it, and each ends with what an undisturbed one has, resource by resource.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from deployments.doctor import CHECKS
from infra.chaos import feeds
from infra.chaos.site import FEEDS, Site, families, site
from infra.chaos.workload import Round, rounds
from infra.chaos.world import stopped
from tasks import failpoints
from tasks.failpoints import Point
from tasks.settings import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ENDED = {"Completed", "Failed", "Crashed"}
Eventually = Callable[..., Any]


@dataclass
class Pair:
    """A site that is disturbed and one that is left alone: both get the same rounds in the same order."""

    site: Site
    calm: Site
    plan: Iterator[Round]

    def send(self) -> str:
        """Let a partner send the next round; return the feed that takes it. The calm site takes it at once."""
        one = next(self.plan)
        for each in (self.calm, self.site):
            each.deliver(one)
        self.calm.rest([feeds.OF[one.feed]])
        return feeds.OF[one.feed]

    def alike(self, feed: str) -> None:
        """The disturbed site comes to rest, is sound, and is the same as the other."""
        self.site.rest([feed])
        assert self.site.picture().differences(self.calm.picture()) == []
        with psycopg.connect(self.site.url, autocommit=True) as connection:
            for name, query in CHECKS.items():
                assert connection.execute(query.encode()).fetchall() == [], name

    def prefect(self, path: str, **body: Any) -> Any:
        """Call Prefect's API; its server on SQLite says 503 while another write takes long: nothing was done then."""
        for _ in range(30):
            answer = httpx.post(f"{self.site.env['PREFECT_API_URL']}/{path}", json=body, timeout=300)
            if answer.status_code != 503:
                break
            time.sleep(2)
        assert answer.is_success, f"{path}: {answer.status_code}"
        return answer.json()

    def start(self, deployment: str, flow: str = "ingest") -> str:
        """Start a deployment as its schedule would; return the run's id."""
        names = {"deployments": {"name": {"any_": [deployment]}}, "flows": {"name": {"any_": [flow]}}}
        [found] = self.prefect("deployments/filter", **names)
        return str(self.prefect(f"deployments/{found['id']}/create_flow_run")["id"])

    def state(self, run: str) -> str:
        """The name of a run's state."""
        return str(self.prefect("flow_runs/filter", flow_runs={"id": {"any_": [run]}})[0]["state"]["name"])

    def stopped_at(self, feed: str, point: Point, eventually: Eventually) -> tuple[str, int]:
        """Start a run that stands still at a point; return the run's id and its process's."""
        self.site.arm(point, "freeze")
        run = self.start(feed)
        pid = eventually(lambda: failpoints.taken(self.site.points, point))
        eventually(lambda: stopped(pid))
        return run, pid

    def kill_with_worker(self, run: str) -> None:
        """Kill the worker and every process that works for a run."""
        self.site.kill("worker")
        for process in families(self.site.env, run):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def deploy(self) -> None:
        """Register the feeds as `sluice deploy` does it, automations and all."""
        self.command("-c", "from deployments.cli.main import main; main()", "deploy")

    def command(self, *words: str) -> None:
        """Run Python as an operator's shell would, with the stack's environment."""
        env = {**os.environ, **self.site.env, "PYTHONPATH": str(PROJECT)}
        subprocess.run([sys.executable, *words], env=env, cwd=PROJECT, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def stacks() -> Iterator[Pair]:
    """Two stacks of these tests' own; nothing of them is left."""
    with tempfile.TemporaryDirectory(prefix="sluice-died-") as name:
        folder = Path(name)
        written = feeds.write(folder / "feeds", FEEDS)
        with site(folder / "calm", written) as calm, site(folder / "chaos", written) as chaos:
            made = Pair(chaos, calm, rounds(17, ("hl7", "csv")))
            made.deploy()
            yield made


@pytest.fixture
def pair(stacks: Pair) -> Iterator[Pair]:
    yield stacks
    stacks.site.disarm()
    # a test that failed must not leave the next one without a worker
    stacks.site.revive()


def test_a_run_that_died_with_its_worker_is_marked_crashed_by_the_automation_and_retried_on_the_command_line(
    pair: Pair, eventually: Eventually
) -> None:
    feed = pair.send()
    run, _ = pair.stopped_at(feed, "gated", eventually)
    pair.kill_with_worker(run)
    assert pair.state(run) == "Running", "nobody has told Prefect"
    eventually(lambda: pair.state(run) == "Crashed", 300)
    assert pair.site.restless()["batches"], "the ledger has what it was at, and the batch that was staged ahead"
    pair.site.revive()
    pair.command("-m", "prefect", "flow-run", "retry", run)
    eventually(lambda: pair.state(run) in ENDED, 300)
    assert pair.state(run) == "Completed"
    assert "batches" not in pair.site.restless()
    pair.alike(feed)


def test_the_next_schedule_goes_on_at_once_and_the_reaper_sees_to_the_run_that_died(
    pair: Pair, eventually: Eventually
) -> None:
    """The automation is away, as it would be for a run that died while Prefect's server was down."""
    for one in pair.prefect("automations/filter"):
        if one["name"] == "sluice: a run died":
            httpx.delete(f"{pair.site.env['PREFECT_API_URL']}/automations/{one['id']}", timeout=30)
    try:
        feed = pair.send()
        run, _ = pair.stopped_at(feed, "staged", eventually)
        pair.kill_with_worker(run)
        pair.site.revive()
        again = pair.start(feed)
        eventually(lambda: pair.state(again) in ENDED, 300)
        assert pair.state(again) == "Completed"
        assert "batches" not in pair.site.restless()
        assert pair.state(run) == "Running"
        time.sleep(95)
        reaper = pair.start("all", "reap")
        eventually(lambda: pair.state(reaper) in ENDED, 300)
        assert pair.state(reaper) == "Completed"
        assert pair.state(run) == "Crashed"
    finally:
        pair.deploy()
    pair.alike(feed)


def test_two_retries_of_one_run_at_once_do_the_work_once(pair: Pair, eventually: Eventually) -> None:
    feed = pair.send()
    pair.site.arm("staged", "kill")
    run = pair.start(feed)
    eventually(lambda: pair.state(run) == "Crashed", 180)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
    for _ in range(2):
        pair.prefect(f"flow_runs/{run}/set_state", state=state, force=True)
    third = pair.start(feed)
    eventually(lambda: {pair.state(one) for one in (run, third)} <= {"Completed"}, 300)
    pair.alike(feed)


@pytest.mark.parametrize(("seconds", "point"), [(15, "gated"), (150, "landed"), (600, "staged")])
def test_prefects_server_goes_away_in_the_middle_and_nothing_is_lost(
    pair: Pair, eventually: Eventually, seconds: int, point: Point
) -> None:
    """15 s are shorter than Prefect's client waits, 150 s longer; after ten minutes the run has long ended."""
    feed = pair.send()
    run, pid = pair.stopped_at(feed, point, eventually)
    pair.site.kill("prefect")
    os.kill(pid, signal.SIGCONT)
    time.sleep(seconds)
    pair.site.revive()
    eventually(lambda: pair.state(run) in ENDED, 400)
    again = pair.start(feed)
    eventually(lambda: pair.state(again) in ENDED, 300)
    assert pair.state(again) == "Completed"
    assert "batches" not in pair.site.restless()
    pair.alike(feed)
