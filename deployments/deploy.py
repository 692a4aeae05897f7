"""Registers every feed and destination as a Prefect deployment, with schedule, and the automation that alerts."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists
from prefect.schedules import Cron, Interval
from prefect.types.entrypoint import EntrypointType

from deployments.changes import note_changes
from flows.deliver import deliver_all
from flows.expect import expect
from flows.ingest import ingest
from flows.reap import HEARTBEAT_SECONDS, TAG, reap
from flows.upkeep import upkeep
from tasks import feed as feeds
from tasks.destinations import destination_files

POOL = "sluice"

REAP_SECONDS = 300
UPKEEP_AT = "30 3 * * *"


def deploy(names: list[str], tell: Callable[[str], None], *, schedules: bool = True) -> None:
    """Register the named feeds, or all of them, with their schedules unless told not to.

    Raises `ConfigError` for a mistake in a feed file before any deployment is changed.
    """
    chosen = [feeds.load(name) for name in names or feeds.feed_files()]
    with get_client(sync_client=True) as client:
        _pool(client)
        for feed in chosen:
            _register(ingest, feed.name, {"feed": feed.name}, _schedule(feed) if schedules else None, feed.partner)
            tell(f"ingest/{feed.name}: deployed, {_words(feed)}")
        for name in destination_files():
            _register(deliver_all, name, {"destination": name}, Interval(60) if schedules else None, "outbox")
            tell(f"deliver/{name}: deployed, every 60s")
        _register(expect, "all", {}, Interval(300) if schedules else None, "late")
        tell("expect/all: deployed, every 300s")
        _register(reap, "all", {}, Interval(REAP_SECONDS) if schedules else None, "reaper")
        tell(f"reap/all: deployed, every {REAP_SECONDS}s")
        _register(upkeep, "all", {}, Cron(UPKEEP_AT) if schedules else None, "ledger")
        tell(f"upkeep/all: deployed, at {UPKEEP_AT}")
    note_changes(feed.name for feed in chosen if feed.name in feeds.feed_files())
    from deployments.alerts import register_alert, register_died

    register_alert(os.environ.get("SLUICE_ALERT_WEBHOOK"), tell)
    register_died(tell)


def _pool(client: SyncPrefectClient) -> None:
    # a worker that starts at the same moment makes it as well
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def _register(flow: Flow[..., Any], name: str, parameters: dict[str, str], schedule: Any, *tags: str) -> None:
    deployment = flow.to_deployment(
        name=name,
        parameters=parameters,
        schedules=[schedule] if schedule else [],
        tags=[TAG, *tags],
        description=f"Sluice: {flow.name} {name}",
        work_pool_name=POOL,
        # in whatever process a worker runs it: without heartbeats nobody sees it die
        job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # noqa: S101
    deployment.apply()


def _schedule(feed: feeds.Feed) -> Any:
    if feed.schedule is None:
        return None
    if feed.schedule.cron:
        return Cron(feed.schedule.cron, timezone=feed.timezone or "UTC")
    return Interval(feeds.seconds(str(feed.schedule.every)))


def _words(feed: feeds.Feed) -> str:
    if feed.schedule is None:
        return "without a schedule"
    return f"every {feed.schedule.every}" if feed.schedule.every else f"at {feed.schedule.cron}"
