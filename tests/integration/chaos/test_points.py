"""Killed and frozen at the points of a record's way and going on: the end is a calm run's end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.chaos.mllp import send
from infra.chaos.picture import Picture
from infra.chaos.workload import Round, rounds
from infra.chaos.world import LEASE_SECONDS, stopped, wait_for
from infra.dev.process import free_port, listens
from tasks.failpoints import POINTS, taken
from tasks.settings import PROJECT

# a file's sender waits for no answer
POLLED = [point for point in POINTS if point != "acknowledged"]
HL7, CSV = "northside.hl7", "eastlab.results"


@pytest.fixture
def sent() -> Round:
    return next(rounds(7, ("hl7",)))


@pytest.fixture
def wanted(sites: Callable, sent: Round) -> Picture:
    """What the file becomes where nothing happens."""
    calm = sites("calm")
    calm.drop(sent)
    calm.rest([HL7])
    picture = calm.picture()
    assert picture.size > 100
    assert picture.parts["invariant"] == {}
    assert picture.parts["server"]
    assert picture.parts["receipts"]
    return picture


def test_killed_at_every_point_one_after_another_it_ends_like_a_run_that_was_left_alone(
    sites: Callable, sent: Round, wanted: Picture
) -> None:
    site = sites("chaos")
    site.drop(sent)
    for point in POLLED:
        site.arm(point, "kill")
        assert site.run(HL7) == -signal.SIGKILL, f"it never got to {point}"
        site.disarm()
    site.rest([HL7])
    assert site.picture().differences(wanted) == []


@pytest.mark.slow
@pytest.mark.parametrize("point", ["landed", "converted", "staged", "gated", "before-commit", "sent-unconfirmed"])
def test_frozen_past_its_lease_it_wakes_up_after_another_has_done_the_work_and_changes_nothing(
    sites: Callable, sent: Round, wanted: Picture, point: str
) -> None:
    site = sites("chaos")
    site.drop(sent)
    site.arm(point, "freeze")
    asleep = site.begin(HL7)
    assert wait_for(lambda: stopped(asleep.pid))
    time.sleep(LEASE_SECONDS + 0.5)
    site.rest([HL7])
    other = site.picture()
    assert other.differences(wanted) == []
    os.kill(asleep.pid, signal.SIGCONT)
    asleep.join(60)
    assert asleep.exitcode is not None
    site.rest([HL7])
    assert site.picture().differences(wanted) == []


class Listener:
    """`sluice listen mllp` as a process, begun again whenever it died."""

    def __init__(self, site: Any) -> None:
        self.site, self.port, self.begun = site, free_port(23000), 0
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.begun += 1
        command = [
            sys.executable,
            "-c",
            "from deployments.cli.main import main; main()",
            "listen",
            "mllp",
            "westside.live",
        ]
        env = {**os.environ, **self.site.env, "PYTHONPATH": str(PROJECT)}
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], cwd=PROJECT, env=env, stdout=subprocess.DEVNULL
        )
        assert wait_for(lambda: listens(self.port), 120)

    def end(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.mark.slow
def test_a_listener_killed_at_each_of_its_points_takes_every_message_once(sites: Callable) -> None:
    sent = next(rounds(7, ("mllp",)))
    pictures = []
    for name, struck in (("calm", ()), ("chaos", ("fsynced", "landed", "acknowledged"))):
        site = sites(name)
        listener = Listener(site)
        try:
            for number, message in enumerate(sent.messages):
                if number < len(struck):
                    site.arm(struck[number], "kill")
                listener.begin()
                send(listener.port, [message], listener.begin)
            assert wait_for(lambda site=site, struck=struck: all(taken(site.points, point) for point in struck))
        finally:
            listener.end()
        assert listener.begun == 1 + len(struck)
        site.rest(["westside.live"])
        pictures.append(site.picture())
    assert pictures[0].parts["totals"]["westside.live"].startswith(f"{len(sent.messages)} ")
    assert pictures[1].differences(pictures[0]) == []
