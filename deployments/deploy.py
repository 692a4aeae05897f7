"""Registers every feed and destination as a Prefect deployment, with schedule, and the automation that alerts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import DeploymentSort
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron, Interval, Schedule
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
PAGE = 200
UPKEEP_AT = "30 3 * * *"


def deploy(names: list[str], tell: Callable[[str], None], *, schedules: bool = True) -> None:
    """Register the named feeds, or all of them, with their schedules unless told not to.

    Raises `ConfigError` for a mistake in a feed file before any deployment is changed.
    """
    chosen = [feeds.load(name) for name in names or feeds.feed_files()]
    with get_client(sync_client=True) as client:
        _pool(client)

        def register(flow: Flow[..., Any], name: str, schedule: Schedule | None, *tags: str, **parameters: str) -> None:
            paused = _register(client, flow, name, parameters, schedule if schedules else None, *tags)
            when = _words(schedule) if schedules else "started by hand"
            tell(f"{flow.name}/{name}: deployed, {when}{paused}")

        for feed in chosen:
            register(ingest, feed.name, _schedule(feed), feed.partner, feed=feed.name)
        for name in destination_files():
            register(deliver_all, name, Interval(60), "outbox", destination=name)
        register(expect, "all", Interval(300), "late")
        register(reap, "all", Interval(REAP_SECONDS), "reaper")
        register(upkeep, "all", Cron(UPKEEP_AT), "ledger")
        _fileless(client, tell)
    note_changes(feed.name for feed in chosen if feed.name in feeds.feed_files())
    from deployments.alerts import register_alert, register_died

    register_alert(os.environ.get("SLUICE_ALERT_WEBHOOK"), tell)
    register_died(tell)


def _pool(client: SyncPrefectClient) -> None:
    # a worker that starts at the same moment makes it as well
    with suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))


def _register(
    client: SyncPrefectClient,
    flow: Flow[..., Any],
    name: str,
    parameters: dict[str, str],
    schedule: Schedule | None,
    *tags: str,
) -> str:
    """Register one deployment and return what to add to its line: what an operator paused stays paused."""
    before = _registered(client, f"{flow.name}/{name}")
    paused = before is not None and before.paused
    off = before is not None and bool(before.schedules) and not any(one.active for one in before.schedules)
    deployment = flow.to_deployment(
        name=name,
        parameters=parameters,
        paused=paused,
        schedules=[replace(schedule, active=not off)] if schedule else [],
        tags=[TAG, *tags],
        description=f"Sluice: {flow.name} {name}",
        work_pool_name=POOL,
        # in whatever process a worker runs it: without heartbeats nobody sees it die
        job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS)}},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    assert isinstance(deployment, RunnerDeployment)  # noqa: S101
    deployment.apply()
    return ", paused as it was" if paused or (off and schedule) else ""


def _registered(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _fileless(client: SyncPrefectClient, tell: Callable[[str], None]) -> None:
    """Tell of deployments whose file is gone; they stay, for another folder may have it."""
    for flow, files in ((ingest, feeds.feed_files()), (deliver_all, destination_files())):
        for one in _deployed(client, flow.name):
            if one.name not in files and TAG in one.tags:
                known = f"{flow.name}/{one.name}"
                tell(f"{known}: has no file here; `prefect deployment delete {known}` where it is gone for good")


def _deployed(client: SyncPrefectClient, flow: str) -> Iterator[DeploymentResponse]:
    named, offset = FlowFilter(name=FlowFilterName(any_=[flow])), 0
    while page := client.read_deployments(flow_filter=named, sort=DeploymentSort.NAME_ASC, limit=PAGE, offset=offset):
        yield from page
        offset += PAGE


def _schedule(feed: feeds.Feed) -> Schedule | None:
    if feed.schedule is None:
        return None
    if feed.schedule.cron:
        return Cron(feed.schedule.cron, timezone=feed.timezone or "UTC")
    return Interval(feeds.seconds(str(feed.schedule.every)))


def _words(schedule: Schedule | None) -> str:
    if schedule is None:
        return "without a schedule"
    if schedule.interval is None:
        return f"at {schedule.cron}"
    seconds = int(schedule.interval.total_seconds())
    unit, of = next((unit, of) for unit, of in (("h", 3600), ("m", 60), ("s", 1)) if seconds % of == 0)
    return f"every {seconds // of}{unit}"
