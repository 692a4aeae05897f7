"""`sluice demo`: the sample partners have a day, the product takes it, and the result is printed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

import boto3
import httpx

from deployments import runs
from deployments.deploy import deploy
from infra.dev.fhir.seed import seed
from infra.dev.partners import DroppedFile, drop_s3, drop_sftp, generate, moments
from infra.dev.stack import Stack
from tasks.errors import Permanent
from tasks.ledger import counts
from tasks.ledger.db import Connection, connect
from tasks.settings import connection, settings, state_folder

SEED = 1
DAY = date(2026, 3, 9)
FEEDS = ("northside.hl7", "eastlab.results", "eastlab.roster", "county.registry")
Tell = Callable[[str], None]


def demo(tell: Tell, show: Callable[[Any], None]) -> None:
    """Let the partners drop the day, run every feed until nothing is left, print what happened.

    Raises `Permanent` where a run failed or something is still in flight.
    """
    started = time.monotonic()
    stack = Stack()
    deploy([], tell, schedules=False)
    tell("the sample partners prepare their day")
    day = generate(SEED, DAY)
    with connect(settings().warehouse_url) as ledger:
        first = _newest_delivery(ledger)
    seed(stack.database("fhir"), "county", day.county)
    _day(moments(day.northside), moments(day.eastlab), tell)
    _until_delivered(tell)
    show(_report(first, stack))
    tell(f"the demo took {time.monotonic() - started:.0f} s")


def _day(northside: list[list[DroppedFile]], eastlab: list[list[DroppedFile]], tell: Tell) -> None:
    """Drop what each moment brings and poll after it; one more poll at the end for what must look the same twice."""
    for moment in range(max(len(northside), len(eastlab)) + 1):
        hospital = _at(northside, moment)
        laboratory = _at(eastlab, moment)
        tell(f"moment {moment}: northside drops {len(hospital)} files, eastlab {len(laboratory)}")
        drop_sftp(state_folder() / "sftp" / "homes" / "northside", hospital)
        drop_s3(_s3(), connection("eastlab")["bucket"], laboratory)
        feeds = {"northside.hl7"}
        feeds |= {"eastlab.results" for file in laboratory if file.name.startswith("results/")}
        feeds |= {"eastlab.roster" for file in laboratory if file.name.startswith("roster/")}
        if moment == 0:
            feeds.add("county.registry")
        _run(sorted(feeds), tell)


def _at(schedule: list[list[DroppedFile]], moment: int) -> list[DroppedFile]:
    return schedule[moment] if moment < len(schedule) else []


def _run(feeds: Iterable[str], tell: Tell) -> None:
    """Run the feeds' deployments side by side, as the schedule would."""
    started = {feed: runs.start(feed) for feed in feeds}
    for feed, run in started.items():
        ended = runs.wait(run)
        if not ended.good:
            raise Permanent(f"{feed}: {ended}; run {run} in Prefect's UI")
        with connect(settings().warehouse_url) as ledger:
            sums = counts.total(counts.of_run(ledger, run))
        told = ", ".join(f"{number} {name}" for name, number in sums.items() if number)
        tell(f"  {feed}: {told or 'nothing'}")


def _until_delivered(tell: Tell) -> None:
    """Let the destinations catch up with what two runs wanted to send at the same time."""
    for _ in range(60):
        with connect(settings().warehouse_url) as ledger:
            waiting = ledger.execute(
                "select count(*) from ledger.outbox where destination = 'ehr' and state = 'pending'"
            ).fetchone()
        if not waiting or not waiting[0]:
            return
        tell(f"  {waiting[0]} resources wait for their destination")
        ended = runs.wait(runs.start_flow("deliver/ehr"))
        if not ended.good:
            raise Permanent(f"deliver/ehr: {ended}; see it in Prefect's UI")


def _report(first: int, stack: Stack) -> dict[str, Any]:
    with connect(settings().warehouse_url) as ledger:
        deliveries = [row for row in counts.of_feed(ledger) if row["id"] > first]
        store = dict(
            ledger.execute(
                "select resource_type, count(*) from fhir.resource where not deleted group by 1 order by 1"
            ).fetchall()
        )
    return {
        "deliveries": deliveries,
        "store": store,
        "server": {kind: _on_server(kind) for kind in store},
        "services": stack.status(),
    }


def _on_server(kind: str) -> int:
    answer = httpx.get(f"{connection('ehr')['base_url']}/{kind}", params={"_summary": "count"}, timeout=60)
    answer.raise_for_status()
    return int(answer.json()["total"])


def _newest_delivery(ledger: Connection) -> int:
    row = ledger.execute("select coalesce(max(id), 0) from ledger.delivery").fetchone()
    return int(row[0]) if row else 0


def _s3() -> Any:
    said = connection("eastlab")
    return boto3.client(
        "s3",
        endpoint_url=said["endpoint_url"],
        region_name=said["region"],
        aws_access_key_id=said["access_key"],
        aws_secret_access_key=said["secret_key"],
    )
