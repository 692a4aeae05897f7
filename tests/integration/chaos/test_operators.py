"""Operators press everything at once while files come: the end is that of a site on which nobody pressed anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import islice

import psycopg
import pytest

from deployments.doctor import CHECKS
from infra.chaos.workload import rounds
from tasks.settings import PROJECT

pytestmark = pytest.mark.slow

HL7 = "northside.hl7"
MAIN = "from deployments.cli.main import main; main()"
WHY = ("--reason", "to see what happens")
ACTS = (
    ("replay", "--feed", HL7, *WHY, "--batch-size", "3", "--pause", "0"),
    ("replay", "--feed", HL7, *WHY, "--batch-size", "7", "--pause", "0"),
    ("replay", "--feed", HL7, *WHY, "--dry-run"),
    ("quarantine", "release", "--feed", HL7, *WHY),
    ("prune", "--older-than", "400"),
)


def press(site, *words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, **site.env, "PYTHONPATH": str(PROJECT)}
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words], cwd=PROJECT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def sound(site) -> None:
    with psycopg.connect(site.url, autocommit=True) as connection:
        assert connection.execute("select * from ops.invariant").fetchall() == []
        for name, query in CHECKS.items():
            assert connection.execute(query.encode()).fetchall() == [], name


def test_replays_releases_and_pruning_beside_two_pollers_change_nothing(sites: Callable) -> None:
    plan = list(islice(rounds(23, ("hl7",)), 4))
    calm = sites("calm")
    for one in plan:
        calm.drop(one)
        calm.rest([HL7])
    wanted = calm.picture()
    site = sites("pressed")
    site.drop(plan[0])
    site.rest([HL7])
    for number, one in enumerate(plan[1:]):
        site.drop(one)
        pressed = [press(site, *words) for words in ACTS]
        pollers = [site.begin(HL7), site.begin(HL7)]
        if number == 1:
            pressed[0].kill()
        said = [process.communicate(timeout=240)[0].decode() for process in pressed]
        for process in pollers:
            process.join(120)
        assert not [text for text in said if "Traceback" in text], said
        assert 2 not in [process.returncode for process in pressed], said
        sound(site)
        site.rest([HL7])
    assert site.picture().differences(wanted) == []


def test_a_release_and_a_discard_of_the_same_records_at_one_moment_end_each_of_them_once(sites: Callable) -> None:
    [one] = islice(rounds(23, ("hl7",)), 1)
    site = sites("both")
    bad = b"".join(b"MSH|^~\\&|garbage %d\r" % number for number in range(20))
    site.drop(type(one)("hl7", "bad.hl7", one.data + bad))
    site.rest([HL7])
    pressed = [
        press(site, "quarantine", word, "--feed", HL7, *WHY) for word in ("release", "discard", "release", "discard")
    ]
    said = [process.communicate(timeout=240)[0].decode() for process in pressed]
    assert not [text for text in said if "Traceback" in text], said
    sound(site)
    with psycopg.connect(site.url) as connection:
        [(received, published, quarantined, discarded)] = connection.execute(
            "select received, published, quarantined, discarded from ops.delivery"
        ).fetchall()
    assert discarded >= 20
    assert quarantined == 0
    assert received == published + discarded
