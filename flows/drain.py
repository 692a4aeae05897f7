"""The flow that takes what listeners land, for as long as it runs: one run, and a task run for some minutes' work."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, get_run_logger
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import show
from tasks import log
from tasks.errors import Transient
from tasks.ledger.claims import Busy
from tasks.process.drain import STOP
from tasks.process.task import drain_for

MINUTES = 5.0
"""Minutes of one task run: each costs a row or two of Prefect's database, and a batch alone is not worth one."""


@materialize("sluice://warehouse", name="published", cache_policy=NO_CACHE, persist_result=False)
def published(batches: int) -> int:
    """Stand for what a drain published of a feed, so that it is shown as the feed's asset."""
    return batches


@flow(name="drain", flow_run_name="drain", persist_result=False)
def drain(feeds: list[str], minutes: float = MINUTES, rounds: int = 0) -> dict[str, Any]:
    """Drain feeds until told to stop, or for a number of `rounds`; return the counts of the last one by feed."""
    log.configure()
    done, counts = 0, {}
    while not STOP.is_set() and (rounds == 0 or done < rounds):
        try:
            counts = drain_for(feeds, minutes * 60, str(flow_run.id or ""))
            for feed, said in counts.items():
                if said.get("batches"):
                    published.with_options(**show.assets(feed))(said["batches"])
        except (Busy, Transient) as error:
            get_run_logger().warning("the drain waits: %s", error)
            STOP.wait(5)
        done += 1
    return counts


def until_stopped(feeds: list[str]) -> None:
    """Run the flow in this process; a run that fails is followed by another one, after a while that grows."""
    pause = 5.0
    while not STOP.is_set():
        began = time.monotonic()
        state = drain(feeds, return_state=True)
        if state.is_completed():
            continue
        pause = 5.0 if time.monotonic() - began > 600 else min(pause * 2, 300)
        STOP.wait(pause)
