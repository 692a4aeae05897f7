"""Carrying a disturbance out: begin the work, bring the process to the point, kill or freeze it, go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress

import psutil

from infra.chaos.feeds import OF
from infra.chaos.plan import Disturbance
from infra.chaos.site import Site
from infra.chaos.world import LEASE_SECONDS, stopped, wait_for
from tasks import failpoints

BEYOND = LEASE_SECONDS + 0.7
"""Seconds of sleep that outlast a lease."""
SERVICE = {"postgres": "postgres", "fhir": "fhir-ehr"}


def carry_out(site: Site, one: Disturbance) -> bool:
    """Disturb a site's round and let it come to rest; say whether the disturbance met anybody."""
    met = _listener(site, one) if one.victim == "listener" else _run(site, one)
    site.disarm()
    site.rest([OF[one.round.feed]])
    return met


def _run(site: Site, one: Disturbance) -> bool:
    """A run of the round's feed is what is disturbed, by itself or by what it needs."""
    feed = OF[one.round.feed]
    site.deliver(one.round)
    alone = one.victim == "flow" and one.way == "kill"
    if one.point:
        site.arm(one.point, "kill" if alone else "freeze", one.passes)
    process = site.begin(feed)
    if one.point is None:
        time.sleep(one.seconds)
        met = process.exitcode is None
        if alone:
            process.kill()
        elif met and process.pid:
            os.kill(process.pid, signal.SIGSTOP)
    else:
        met = wait_for(lambda: process.exitcode is not None or stopped(process.pid or 0), 120)
        met = met and failpoints.taken(site.points, one.point) is not None
    if not alone:
        _others(site, one, feed)
        if process.pid and process.exitcode is None:
            os.kill(process.pid, signal.SIGCONT)
    process.join(150)
    if process.exitcode is None:
        raise RuntimeError(f"{one}: the run never ends")
    return met


def _others(site: Site, one: Disturbance, feed: str) -> None:
    """While a run stands still: another takes over, or what it needs dies and comes back."""
    if one.victim == "flow":
        time.sleep(BEYOND)
        site.run(feed)
        return
    service = SERVICE[one.victim]
    # what Postgres calls an immediate shutdown: nothing is written any more, and the start is a recovery
    site.kill(service, signal.SIGQUIT if service == "postgres" else signal.SIGKILL)
    site.revive()


def _listener(site: Site, one: Disturbance) -> bool:
    """The listener is killed or frozen while a partner sends; the partner sends again what was not acknowledged."""
    process = psutil.Process(site.listener(one.round.feed).begin())
    if one.point:
        site.arm(one.point, one.way, one.passes)
    sender = threading.Thread(target=site.deliver, args=(one.round,))
    sender.start()
    if one.point is None:
        time.sleep(one.seconds / 4)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL if one.way == "kill" else signal.SIGSTOP)
    met = one.point is None or wait_for(lambda: failpoints.taken(site.points, one.point or "landed"), 30)
    if one.way == "freeze":
        # longer than its sender waits for an answer: the message comes again over another connection
        time.sleep(BEYOND + 1)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)
    sender.join(180)
    if sender.is_alive():
        raise RuntimeError(f"{one}: the partner was never answered")
    return met
