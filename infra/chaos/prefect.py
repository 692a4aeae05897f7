"""Disturbing runs that Prefect's server and worker run: the flow's process, the worker, both, the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingRetry

from deployments import runs
from deployments.deploy import deploy
from infra.chaos.act import BEYOND
from infra.chaos.feeds import OF
from infra.chaos.plan import Disturbance
from infra.chaos.site import Site, families
from infra.chaos.world import wait_for
from tasks import failpoints
from tasks.settings import PROJECT

PATIENCE = 300.0
PRESSES = 3


def register() -> None:
    """Deploy the site's feeds without schedules: the chaos decides when a run begins."""
    deploy([], lambda _line: None, schedules=False)


def carry_out(site: Site, one: Disturbance) -> bool:
    """Disturb a deployment's run of a round and let the site come to rest; say whether it met anybody."""
    feed = OF[one.round.feed]
    site.deliver(one.round)
    alone = one.victim == "flow" and one.way == "kill"
    if one.point:
        site.arm(one.point, "kill" if alone else "freeze", one.passes)
    run = runs.start(feed)
    met = _reached(site, one, run)
    asleep = _asleep(site, one, run)
    if not alone:
        _others(site, one, feed, asleep)
    elif one.point is None:
        _signal(asleep, signal.SIGKILL)
    _back(site, one, run, feed)
    site.disarm()
    site.rest([feed])
    return met


def _reached(site: Site, one: Disturbance, run: str) -> bool:
    if one.point is None:
        met = wait_for(lambda: families(site.env, run), PATIENCE)
        time.sleep(one.seconds)
        return met
    return wait_for(lambda: failpoints.taken(site.points, one.point or "landed") or _ended(run), PATIENCE) and bool(
        failpoints.taken(site.points, one.point)
    )


def _asleep(site: Site, one: Disturbance, run: str) -> list[psutil.Process]:
    """Return the processes of a run; where the moment is at random, they are made to stand still first."""
    mine = [process for process in families(site.env, run) if process.is_running()]
    if one.point is None and not (one.victim == "flow" and one.way == "kill"):
        _signal(mine, signal.SIGSTOP)
    return mine


def _others(site: Site, one: Disturbance, feed: str, asleep: list[psutil.Process]) -> None:
    if one.victim == "flow":
        time.sleep(BEYOND)
        site.run(feed)
    elif one.victim == "prefect":
        site.kill("prefect")
        site.revive()
    else:
        site.kill("worker")
        if one.victim == "both":
            _signal(asleep, signal.SIGKILL)
        site.revive()
    _signal(asleep, signal.SIGCONT)


def _back(site: Site, one: Disturbance, run: str, feed: str) -> None:
    """Come back as an operator or a schedule does; the run that was disturbed must not be needed for it."""
    # of a run whose worker died with it, or was let go on alone, nobody tells Prefect: that is the automation's
    told = one.victim in {"flow", "prefect"} and wait_for(lambda: _ended(run), 60)
    if told and _state(run) != "COMPLETED" and one.comes_back != "next schedule":
        for _ in range(PRESSES):
            # the worker tells of a process that died after the server may have heard of it: a person is slower
            time.sleep(3)
            _press(site, one, run)
            if (ended := runs.wait(run, PATIENCE)).good:
                return
    else:
        run = runs.start(feed)
        ended = runs.wait(run, PATIENCE)
    if not ended.good:
        raise RuntimeError(f"{one}: {ended}: run {run}, which went on")


def _press(site: Site, one: Disturbance, run: str) -> None:
    """Retry a run, by the button or by the command."""
    if one.comes_back == "retry from the UI":
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(UUID(run), AwaitingRetry(), force=False)
        return
    command = [sys.executable, "-m", "prefect", "flow-run", "retry", run]
    env = {**os.environ, **site.env}
    subprocess.run(command, env=env, cwd=PROJECT, check=True, capture_output=True, timeout=PATIENCE)


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _ended(run: str) -> bool:
    return _state(run) in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def _state(run: str) -> str:
    with suppress(Exception), get_client(sync_client=True) as client:
        state = client.read_flow_run(UUID(run)).state
        return state.type.value if state else ""
    return ""


def running() -> list[str]:
    """Return the runs that Prefect still takes for running."""
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    with get_client(sync_client=True) as client:
        return [
            str(run.id)
            for run in client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=200)
        ]
