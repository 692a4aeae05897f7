"""Starts a feed's deployment and waits for it."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Pending

from tasks.errors import ConfigError
from tasks.ledger import counts
from tasks.ledger.db import connect
from tasks.settings import settings


def run_feed(feed: str, *, here: bool = False) -> dict[str, Any]:
    """Run a feed once and return run id, state and the counts of what it landed and read.

    Raises `ConfigError` where the feed is not deployed.
    """
    run_id, state = _here(feed) if here else _by_worker(feed)
    with connect(settings().warehouse_url) as connection:
        sums = counts.total(counts.of_run(connection, run_id))
    return {"feed": feed, "run": run_id, "state": state, **sums}


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


def wait(run_id: str, patience: float = 3600) -> str:
    """Wait until a run has ended and return its state's name."""
    deadline = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while True:
            state = client.read_flow_run(UUID(run_id)).state or Pending()
            if state.is_final() or time.monotonic() > deadline:
                return state.name or state.type.value
            time.sleep(0.5)


def _by_worker(feed: str) -> tuple[str, str]:
    run_id = start(feed)
    return run_id, wait(run_id)


def _here(feed: str) -> tuple[str, str]:
    from flows.ingest import ingest

    state = ingest(feed, return_state=True)
    return str(state.state_details.flow_run_id), state.name or state.type.value
