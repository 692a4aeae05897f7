"""Starts a feed's deployment and waits for it."""

from __future__ import annotations

import time
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending

from tasks.errors import ConfigError
from tasks.ledger import counts
from tasks.ledger.db import connect
from tasks.settings import settings

PREFACE = "Flow run encountered an exception: "


class Ended(NamedTuple):
    """How a run ended: its state's name, and for one that did not complete what Prefect's pages say of it, a line."""

    state: str
    why: str

    @property
    def good(self) -> bool:
        """Whether it did what it was started for."""
        return self.state == "Completed"

    def __str__(self) -> str:
        return f"the run ended as {self.state}" + (f" ({self.why})" if self.why else "")


def run_feed(feed: str, *, here: bool = False) -> tuple[Ended, dict[str, Any]]:
    """Run a feed once; return how it ended, and run id, state and the counts of what it landed and read.

    Raises `ConfigError` where the feed is not deployed.
    """
    run_id, ended = _here(feed) if here else _by_worker(feed)
    with connect(settings().warehouse_url) as connection:
        sums = counts.total(counts.of_run(connection, run_id))
    return ended, {"feed": feed, "run": run_id, "state": ended.state, **sums}


def start(feed: str) -> str:
    """Start a feed's deployment and return the run's id at once."""
    return start_flow(f"ingest/{feed}")


def start_flow(deployment: str) -> str:
    """Start a deployment (`flow/name`) and return the run's id at once; raises `ConfigError` where there is none."""
    try:
        run = run_deployment(deployment, timeout=0, as_subflow=False)
    except ObjectNotFound:
        raise ConfigError(f"{deployment} is not deployed; run `sluice deploy`") from None
    assert isinstance(run, FlowRun)  # noqa: S101
    return str(run.id)


def wait(run_id: str, patience: float = 3600) -> Ended:
    """Wait until a run has ended and return how."""
    deadline = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(UUID(run_id)).state or Pending()
            if state.is_final() or time.monotonic() > deadline:
                return _ended(state)
            time.sleep(0.5)


def _by_worker(feed: str) -> tuple[str, Ended]:
    run_id = start(feed)
    return run_id, wait(run_id)


def _here(feed: str) -> tuple[str, Ended]:
    from flows.ingest import ingest

    state = ingest(feed, return_state=True)
    return str(state.state_details.flow_run_id), _ended(state)


def _ended(state: State[Any]) -> Ended:
    said = "" if state.is_completed() else (state.message or "").removeprefix(PREFACE).partition("\n")[0]
    return Ended(state.name or state.type.value, said)
