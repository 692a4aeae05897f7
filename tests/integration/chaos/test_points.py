"""Killed and frozen at the points of a record's way and going on: the end is a calm run's end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.chaos.feeds import OF
from infra.chaos.listener import Listener
from infra.chaos.picture import Picture
from infra.chaos.workload import Round, rounds
from infra.chaos.world import LEASE_SECONDS, stopped, wait_for
from tasks.failpoints import POINTS, taken

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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mllp", "http"])
def test_a_listener_killed_at_each_of_its_points_takes_every_message_once(sites: Callable, kind: Any) -> None:
    sent = next(rounds(7, (kind,)))
    pictures = []
    for name, struck in (("calm", ()), ("chaos", ("fsynced", "landed", "acknowledged"))):
        site = sites(name)
        listener = Listener(kind, OF[kind], site.env)
        try:
            for number, message in enumerate(sent.messages):
                if number < len(struck):
                    site.arm(struck[number], "kill")
                listener.send([message])
            assert wait_for(lambda site=site, struck=struck: all(taken(site.points, point) for point in struck))
        finally:
            listener.end()
        assert listener.begun == 1 + len(struck)
        site.rest([OF[kind]])
        pictures.append(site.picture())
    assert len(pictures[0].parts["store"]) > len(sent.messages)
    assert pictures[1].parts["totals"] == pictures[0].parts["totals"]
    assert pictures[1].differences(pictures[0]) == []
