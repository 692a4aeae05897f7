"""The flow that sees to runs that died: it marks those as crashed which nobody works on any more.

The automation of the same purpose sees a heartbeat stop; it sees nothing of runs that died while Prefect's server was
away, or before their first heartbeat. This flow looks at what is there, and asks the ledger too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter
from prefect.runtime import flow_run
from prefect.states import Crashed

from tasks import log
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.settings import settings

HEARTBEAT_EVENT = "prefect.flow-run.heartbeat"
HEARTBEAT_SECONDS = 30
"""How often a run shows that it lives; Prefect takes no less."""
SILENCE_SECONDS = 3 * HEARTBEAT_SECONDS
"""After how long without a heartbeat a run has died."""
PENDING_SECONDS = 900
"""How long a run may wait for its process, image and all; its worker may have died in between."""
TAG = "sluice"
PAGE = 200


@flow(name="reap", persist_result=False)
def reap() -> dict[str, int]:
    """Mark runs as crashed that died; a run with a heartbeat or a lease of the ledger lives. Return counts."""
    log.configure()
    with get_client(sync_client=True) as client:
        now = _server_time(client)
        silent = [run for run in _suspects(client, now) if not _beats(client, run, now)]
        dead = list(_without_lease(silent))
        for run in dead:
            state: State[Any] = Crashed(message="Its process died: no heartbeat and no lease. It can be retried.")
            client.set_flow_run_state(run.id, state, force=True)
            log.get_logger().warning("a run died", died=str(run.id), name=run.name)
    return {"silent": len(silent), "crashed": len(dead)}


def _server_time(client: SyncPrefectClient) -> datetime:
    """When this run began, by the clock of Prefect's server: ours may be off, and a clock ahead sees silence."""
    own = client.read_flow_run(UUID(flow_run.id)).start_time if flow_run.id else None
    return own or datetime.now(UTC)


def _suspects(client: SyncPrefectClient, now: datetime) -> Iterator[FlowRun]:
    """Runs of ours that have been in a state for longer than a sign of life may take."""
    for kind, seconds in (("RUNNING", SILENCE_SECONDS), ("PENDING", PENDING_SECONDS)):
        wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": [kind]}}, "tags": {"all_": [TAG]}})
        for run in client.read_flow_runs(flow_run_filter=wanted, sort=FlowRunSort.START_TIME_ASC, limit=PAGE):
            since = run.state.timestamp if run.state else now
            if now - since > timedelta(seconds=seconds) and str(run.id) != flow_run.id:
                yield run


def _beats(client: SyncPrefectClient, run: FlowRun, now: datetime) -> bool:
    since = now - timedelta(seconds=SILENCE_SECONDS)
    heartbeats = EventFilter.model_validate(
        {
            "occurred": {"since": since},
            "event": {"name": [HEARTBEAT_EVENT]},
            "resource": {"id": [f"prefect.flow-run.{run.id}"]},
        }
    )
    return bool(client.read_events(filter=heartbeats, limit=1).events)


def _without_lease(runs: Iterable[FlowRun]) -> Iterator[FlowRun]:
    """Those that hold nothing in the ledger: a process that works renews its leases, whatever Prefect hears of it."""
    with connect(settings().warehouse_url) as connection:
        for run in runs:
            if not claims.held_by(connection, str(run.id)):
                yield run
