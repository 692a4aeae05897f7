"""Runs whose process died, whose worker died with it, or whose server went away: who sees it, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.dev.partners import Day
from tasks import failpoints
from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

ENDED = {"Completed", "Failed", "Crashed"}
Eventually = Callable[..., Any]
FEEDS = [f"southgate.{name}" for name in ("died", "reaped", "twice", "away")]


@pytest.fixture(autouse=True)
def disarmed(site: Any) -> Iterator[None]:
    yield
    for path in points(site).iterdir():
        path.unlink()


@pytest.fixture(scope="module")
def deployed(site: Any) -> None:
    """The feeds of these tests, registered as `sluice deploy` does it."""
    site.sluice("deploy", *FEEDS)


def points(site: Any) -> Path:
    return Path(site.env["SLUICE_FAILPOINTS"])


def drop(site: Any, day: Day, folder: str) -> int:
    """Drop some of the hospital's files at another partner; return how many messages they hold."""
    files = [one for one in day.northside if "A40" in one.name or "NWC_ADT" in one.name]
    files = [one for one in files if one.kind == "new" and not one.growing][:3]
    for one in files:
        (site.drop / folder / one.name).write_bytes(one.data)
    return sum(one.data.count(b"MSH|") for one in files)


def start(site: Any, feed: str) -> str:
    """Start a feed's deployment as its schedule would; return the run's id."""
    [deployment] = site.prefect("deployments/filter", deployments={"name": {"any_": [feed]}})
    address = f"{site.environment()['PREFECT_API_URL']}/deployments/{deployment['id']}/create_flow_run"
    for _ in range(30):
        # Prefect's server on SQLite says 503 while another write takes long; nothing was made then
        answer = httpx.post(address, json={}, timeout=60)
        if answer.status_code != 503:
            break
        time.sleep(2)
    assert answer.is_success, answer.status_code
    return str(answer.json()["id"])


def state_of(site: Any, run: str) -> str:
    return str(site.prefect("flow_runs/filter", flow_runs={"id": {"any_": [run]}})[0]["state"]["name"])


def stopped_at(site: Any, feed: str, point: Any, eventually: Eventually) -> tuple[str, int]:
    """Start a run that stands still at a point; return the run's id and its process's."""
    failpoints.arm(points(site), point, "freeze")
    run = start(site, feed)
    pid = eventually(lambda: failpoints.taken(points(site), point))
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return run, pid


def kill(site: Any, service: str) -> None:
    pid = next(row["pid"] for row in site.facts("status") if row["service"] == service)
    psutil.Process(pid).kill()


def kill_all_of(site: Any, run: str) -> None:
    """Kill every process that works for a run."""
    for process in site.processes():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if run in process.environ().values():
                process.kill()


def totals(site: Any, feed: str) -> tuple[int, int, int, int]:
    """received, published, quarantined, in flight"""
    names = ("received", "published", "quarantined", "in_flight")
    sums = ", ".join(f"coalesce(sum({name}), 0)::int" for name in names)
    return tuple(site.rows(f"select {sums} from ops.delivery where feed = %s", feed)[0])


def test_a_run_that_died_with_its_worker_is_marked_crashed_by_the_automation_and_retried_on_the_command_line(
    site: Any, deployed: None, day: Day, eventually: Eventually
) -> None:
    sent = drop(site, day, "died")
    run, _ = stopped_at(site, "southgate.died", "gated", eventually)
    kill(site, "worker")
    kill_all_of(site, run)
    assert state_of(site, run) == "Running", "nobody has told Prefect"
    eventually(lambda: state_of(site, run) == "Crashed", 300)
    assert totals(site, "southgate.died")[3] > 0, "the ledger has what it was at"
    site.sluice("up")
    environment = {**site.env, **site.environment(), "PYTHONPATH": str(PROJECT)}
    subprocess.run(
        [sys.executable, "-m", "prefect", "flow-run", "retry", run],
        env=environment, cwd=PROJECT, check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    eventually(lambda: state_of(site, run) in ENDED, 300)
    assert state_of(site, run) == "Completed"
    received, published, quarantined, in_flight = totals(site, "southgate.died")
    assert (received, in_flight) == (sent, 0)
    assert published + quarantined == sent


def test_the_next_schedule_goes_on_at_once_and_the_reaper_sees_to_the_run_that_died(
    site: Any, deployed: None, day: Day, eventually: Eventually
) -> None:
    """The automation is away, as it would be for a run that died while Prefect's server was down."""
    sent = drop(site, day, "reaped")
    for one in site.prefect("automations/filter"):
        if one["name"] == "sluice: a run died":
            httpx.delete(f"{site.environment()['PREFECT_API_URL']}/automations/{one['id']}", timeout=30)
    try:
        run, _ = stopped_at(site, "southgate.reaped", "staged", eventually)
        kill(site, "worker")
        kill_all_of(site, run)
        site.sluice("up")
        again = start(site, "southgate.reaped")
        eventually(lambda: state_of(site, again) in ENDED, 300)
        assert state_of(site, again) == "Completed"
        assert totals(site, "southgate.reaped")[::3] == (sent, 0)
        assert state_of(site, run) == "Running"
        time.sleep(95)
        reaper = _start_flow(site, "reap", "all")
        eventually(lambda: state_of(site, reaper) in ENDED, 300)
        assert state_of(site, reaper) == "Completed"
        assert state_of(site, run) == "Crashed"
    finally:
        site.sluice("deploy", *FEEDS)


def _start_flow(site: Any, flow: str, name: str) -> str:
    found = site.prefect("deployments/filter", deployments={"name": {"any_": [name]}}, flows={"name": {"any_": [flow]}})
    return str(site.prefect(f"deployments/{found[0]['id']}/create_flow_run")["id"])


def test_two_retries_of_one_run_at_once_do_the_work_once(
    site: Any, deployed: None, day: Day, eventually: Eventually
) -> None:
    sent = drop(site, day, "twice")
    failpoints.arm(points(site), "staged", "kill")
    run = start(site, "southgate.twice")
    eventually(lambda: state_of(site, run) == "Crashed", 180)
    state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
    for _ in range(2):
        site.prefect(f"flow_runs/{run}/set_state", state=state, force=True)
    third = start(site, "southgate.twice")
    eventually(lambda: {state_of(site, one) for one in (run, third)} <= {"Completed"}, 300)
    assert totals(site, "southgate.twice")[::3] == (sent, 0)
    deliveries = site.one("select count(*) from ledger.delivery where feed = 'southgate.twice'")
    assert deliveries == len([path for path in (site.drop / "twice").iterdir() if path.is_file()])
    batches = site.rows("select state, count(*) from ledger.batch where feed = 'southgate.twice' group by 1")
    assert [state for state, _ in batches] == ["published"]


@pytest.mark.parametrize("seconds", [15, 150])
def test_prefects_server_goes_away_in_the_middle_and_nothing_is_lost(
    site: Any, deployed: None, day: Day, eventually: Eventually, seconds: int
) -> None:
    """150 s is longer than Prefect's client waits: what ends there is what ends after ten minutes."""
    drop(site, day, "away")
    (site.drop / "away" / f"more_{seconds}.hl7").write_bytes(day.northside[seconds % 7].data)
    run, pid = stopped_at(site, "southgate.away", "gated" if seconds < 100 else "landed", eventually)
    kill(site, "prefect")
    os.kill(pid, signal.SIGCONT)
    time.sleep(seconds)
    site.sluice("up")
    eventually(lambda: state_of(site, run) in ENDED, 400)
    again = start(site, "southgate.away")
    eventually(lambda: state_of(site, again) in ENDED, 300)
    assert state_of(site, again) == "Completed"
    received, published, quarantined, in_flight = totals(site, "southgate.away")
    assert in_flight == 0
    assert received >= published + quarantined > 0
    assert all(row["good"] for row in site.facts("doctor"))
