"""Every promise of the design, each in a test that names it; what stands here in small, the chaos run does at large."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from infra.chaos.workload import Round
from infra.dev.partners import MARKER_NAME
from tasks.settings import PROJECT

HL7 = "northside.hl7"


def message(mrn: str, family: str = MARKER_NAME, trigger: str = "A01", gender: str = "F") -> bytes:
    when = "20260309100000-0500"
    segments = (
        f"MSH|^~\\&|ADT|NORTH|SLUICE|HUB|{when}||ADT^{trigger}^ADT_A01|C{mrn}{trigger}|P|2.5.1",
        f"EVN|{trigger}|{when}",
        f"PID|1||{mrn}^^^NORTHSIDE^MR||{family}^Ada||19800101|{gender}",
        f"PV1|1|I|W^1^1^NORTH|||||||||||||||||V{mrn}^^^NORTHSIDE^VN",
    )
    return "\r".join(segments).encode() + b"\r"


def drop(site, name: str, *messages: bytes) -> Path:
    site.drop(Round("hl7", name, b"".join(messages)))
    return site.folder / "drop" / "hl7" / name


def ask(site, query: str):
    with psycopg.connect(site.url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def sluice(site, *args: str):
    done = subprocess.run(
        [sys.executable, "-c", "from deployments.cli.main import main; main()", *args, "--json"],
        cwd=PROJECT, env={**os.environ, **site.env, "PYTHONPATH": str(PROJECT)}, capture_output=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def test_promise_1_landed_before_acknowledged(sites: Callable) -> None:
    """The sign that a partner gets, here the move into the archive, comes after bytes and ledger row are committed."""
    site = sites("one")
    place = drop(site, "day.hl7", message("1"))
    site.arm("fsynced", "kill")
    assert site.run(HL7) == -signal.SIGKILL
    assert place.exists()
    assert ask(site, "select state from ledger.delivery") == [("landing",)]
    site.arm("landed", "kill")
    assert site.run(HL7) == -signal.SIGKILL
    assert place.exists(), "the ledger has it, and the partner has not been told yet"
    assert ask(site, "select state, finished_at from ledger.delivery") == [("landed", None)]
    site.rest([HL7])
    assert not place.exists()
    assert [path.name for path in place.parent.glob("*/*")] == ["day.hl7"]


def test_promise_2_once_in_effect(sites: Callable) -> None:
    """Sent twice, killed after the destination took it and before anybody noted it: one version everywhere."""
    site = sites("two")
    drop(site, "day.hl7", message("1"), message("2"))
    for point in ("after-commit", "sent-unconfirmed", "receipt-written"):
        site.arm(point, "kill")
        assert site.run(HL7) == -signal.SIGKILL
    site.rest([HL7])
    drop(site, "again.hl7", message("2"), message("1"))
    site.rest([HL7])
    assert ask(site, "select max(version_id) from fhir.resource") == [(1,)]
    assert ask(site, "select count(*) from core.patient") == [(2,)]
    with psycopg.connect(site.server[0]) as server:
        assert server.execute("select max(version) from ehr.version").fetchall() == [(1,)]
    assert len([name for name in site.given() if name.startswith("day.hl7") and name.endswith(".txt")]) == 1


def test_promise_3_one_bad_record_stops_itself_alone(sites: Callable) -> None:
    site = sites("three")
    drop(site, "day.hl7", message("1"), b"MSH|^~\\&|garbage\r", message("2"))
    site.rest([HL7])
    [counts] = ask(site, "select received, published, quarantined, in_flight from ops.delivery")
    assert counts == (3, 2, 1, 0)
    [(stage, location)] = ask(site, "select stage, location from ledger.quarantine where ended_at is null")
    assert stage == "parse"
    assert location.startswith("MSH")


def test_promise_4_nothing_silent(sites: Callable) -> None:
    """A code without an entry is a counted finding, and stands itself in the one restricted table."""
    site = sites("four")
    drop(site, "day.hl7", message("1", gender="Q9"), message("2", gender="Q9"))
    site.rest([HL7])
    counted = ask(site, "select location, sum(count)::int from ledger.finding where code ~ 'unmapped' group by 1")
    assert ("PID-8", 2) in counted or ("PID-8.1", 2) in counted
    assert ask(site, "select count::int from restricted.unmapped_code where code = 'Q9'") == [(2,)]
    assert ask(site, "select count(*) from ledger.finding f where to_jsonb(f)::text ~ 'Q9'") == [(0,)]


def test_promise_5_patients_data_stays_in_landing_store_and_destinations(sites: Callable) -> None:
    """Not in a log, an error, a receipt or the ledger: a good record, one of no known kind, a bad one, a bad run."""
    site = sites("five")
    kind, marker = b"ADT^A01^ADT_A01", MARKER_NAME.encode()
    unknown, bad = (message(mrn).replace(kind, said) for mrn, said in (("2", marker + b"^A01"), ("3", b"^" + marker)))
    drop(site, "day.hl7", message("1"), unknown, bad)
    there = site.env["SLUICE_CONNECTION_EHR"]
    site.env["SLUICE_CONNECTION_EHR"] = json.dumps({"base_url": "http://127.0.0.1:9"})
    site.run(HL7)
    site.env["SLUICE_CONNECTION_EHR"] = there
    site.rest([HL7])
    said = site.log.read_text()
    assert "landed" in said, "there is a log"
    tables = ask(site, "select table_name from information_schema.tables where table_schema = 'ledger'")
    assert len(tables) > 10
    for (table,) in tables:
        said += str(ask(site, f"select to_jsonb(t)::text from ledger.{table} t"))
    said += "".join(data.decode("utf-8", "replace") for data in site.given().values())
    assert MARKER_NAME not in said
    assert ask(site, "select count(*) from core.patient where family = 'Zzyzxmarker'") == [(2,)]
    assert ask(site, "select published, quarantined from ops.delivery") == [(2, 1)]


def test_promise_6_the_ledger_is_the_truth(sites: Callable) -> None:
    """A run that knows nothing of those before it goes on where they stopped; the invariant holds at each moment."""
    site = sites("six")
    drop(site, "day.hl7", *(message(str(number)) for number in range(12)))
    for point in ("staged", "gated", "after-commit", "before-commit"):
        site.arm(point, "kill")
        assert site.run(HL7) == -signal.SIGKILL
        assert ask(site, "select * from ops.invariant") == []
        [(received, *ended)] = ask(
            site, "select received, published, quarantined, duplicate, filtered, discarded, in_flight from ops.delivery"
        )
        assert received == sum(ended)
    site.rest([HL7])
    assert ask(site, "select received, published, in_flight from ops.delivery") == [(12, 12, 0)]


@pytest.mark.slow
def test_promise_7_replay_is_safe_to_press(sites: Callable) -> None:
    """The dry run shows the difference and changes nothing; pressed, what is the same stays the same version."""
    site = sites("seven")
    drop(site, "day.hl7", message("1"), message("2"))
    site.rest([HL7])
    before = site.picture()
    sluice(site, "replay", "--delivery", "1", "--reason", "to see", "--dry-run")
    assert site.picture().differences(before) == []
    sluice(site, "replay", "--delivery", "1", "--reason", "to be safe")
    site.rest([HL7])
    assert site.picture().differences(before) == []
    trail = sluice(site, "audit", "list")
    assert any("to be safe" in json.dumps(row) for row in trail)
