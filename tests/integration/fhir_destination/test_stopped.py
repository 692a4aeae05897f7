"""A destination that is stopped while everything comes, and started after it: the outbox is its queue."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from tasks import failpoints
from tasks.deliver import drain as draining
from tasks.deliver.drain import drain
from tasks.deliver.memory import MemoryDestination, MemoryOptions, box
from tasks.ledger import outbox
from tasks.ledger.db import connect

sys.path.insert(0, str(Path(__file__).parent))
from whole_day import DOWN, WholeDay, deliver, held

MEDPLUM = Path(__file__).parents[2] / "interop" / "medplum.mjs"


@pytest.fixture
def whole_day(warehouse_url, tmp_path, monkeypatch):
    return WholeDay(warehouse_url, tmp_path, monkeypatch)


def test_a_destination_that_was_stopped_gets_everything_once_and_in_order(whole_day, stub, monkeypatch):
    monkeypatch.setattr(draining, "ROUND", 300)
    whole_day.destination(DOWN)
    whole_day.drop(3)
    whole_day.run()
    queue = "select resource_type, id, batches, attempts, next_at from ledger.outbox order by 1, 2"
    before = whole_day.rows(queue)
    assert set(deliver(whole_day)) == {"retry"}
    assert whole_day.rows(queue) == before
    assert whole_day.rows("select count(*) from ledger.load_receipt") == [(0,)]
    [(failures, paused)] = whole_day.rows("select failures, paused_until > now() from ledger.destination")
    assert (failures, paused) == (1, True)
    assert deliver(whole_day, now=False) == {}

    stub.integrity = True
    whole_day.destination(f"kind: fhir\nbase_url: {stub.url}\nbackoff: 0.01\n")
    store = whole_day.store()
    assert deliver(whole_day)["sent"] >= len(store) > 1000
    assert stub.store.keys() == store.keys()
    assert set(stub.writes.values()) == {1}
    assert whole_day.rows("select count(*) from ledger.outbox where state <> 'confirmed'") == [(0,)]
    assert whole_day.rows("select count(*) from ledger.batch where state <> 'published'") == [(0,)]
    assert whole_day.rows("select failures from ledger.destination") == [(0,)]


@pytest.mark.slow
def test_medplums_own_router_takes_the_whole_demo_within_its_limits(whole_day):
    """Runs where `SLUICE_MEDPLUM` is a folder in which `npm install @medplum/fhir-router` was done."""
    folder = os.environ.get("SLUICE_MEDPLUM", "")
    if not shutil.which("node") or not (Path(folder) / "node_modules/@medplum/fhir-router").is_dir():
        pytest.skip("needs node, and SLUICE_MEDPLUM: a folder with `npm install @medplum/fhir-router`")
    whole_day.destination(DOWN)
    whole_day.drop()
    whole_day.run()
    deliver(whole_day)
    process = subprocess.Popen(["node", str(MEDPLUM), folder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        base = f"http://127.0.0.1:{int(process.stdout.readline())}"
        whole_day.destination(f"kind: fhir\nbase_url: {base}\n")
        counts = deliver(whole_day)
        refused = whole_day.rows(
            "select resource_type, finding, count(*) from ledger.load_receipt where status = 'refused' group by 1, 2"
        )
        assert refused == []
        assert set(counts) <= {"sent", "unchanged"}
        wanted = Counter(key.partition("/")[0] for key in whole_day.store())
        assert held(base, wanted) == wanted
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture
def clinic(whole_day, request):
    """A memory destination of the test's own, with some of the day waiting for it."""
    whole_day.destination(f"kind: memory\nbox: {request.node.name}\n")
    whole_day.drop(2)
    whole_day.run()
    return box(request.node.name)


def test_every_record_that_says_what_was_refused_is_quarantined(whole_day, clinic):
    many = """
        select id, records from ledger.outbox where resource_type = 'Patient' order by cardinality(records) desc limit 1
    """
    [(patient, records)] = whole_day.rows(many)
    assert len(records) > 1
    clinic.judge = lambda item: "business-rule" if item.id == patient else None
    deliver(whole_day)
    stopped = whole_day.rows("select record_id, findings from ledger.quarantine where stage = 'deliver'")
    assert {row[0] for row in stopped} == set(records)
    assert {row[1][0]["code"] for row in stopped} == {"business-rule at Patient"}
    assert whole_day.rows("select * from ops.invariant") == []


def test_what_refers_to_a_thing_that_waits_for_its_time_waits_too(whole_day, clinic):
    with connect(whole_day.url) as connection:
        later = "update ledger.outbox set next_at = now() + interval '1 hour' where resource_type = 'Patient'"
        connection.execute(later)
    deliver(whole_day)
    kinds = {key.partition("/")[0] for key in clinic.order}
    assert "Organization" in kinds
    assert not kinds & {"Patient", "Observation", "Encounter", "DiagnosticReport"}
    with connect(whole_day.url) as connection:
        connection.execute("update ledger.outbox set next_at = now()")
    deliver(whole_day)
    at = {key: number for number, key in enumerate(clinic.order)}
    assert clinic.held.keys() == whole_day.store().keys()
    assert max(Counter(clinic.order).values()) == 1
    assert at


def test_what_a_destination_stumbles_over_again_and_again_is_given_up(whole_day, monkeypatch):
    whole_day.destination("kind: memory\nbox: given-up\n")
    whole_day.drop(1)
    whole_day.run()
    with connect(whole_day.url) as connection:
        connection.execute("update ledger.outbox set attempts = %s", (draining.GIVE_UP,))
        destination = _Stumbling(MemoryOptions(kind="memory", box="given-up"), {})
        counts = drain(connection, "clinic", destination)
    assert set(counts) == {"sent", "refused"}
    codes = whole_day.rows("select distinct finding from ledger.load_receipt where status = 'refused'")
    assert codes == [("given-up at Patient.name",)]


class _Stumbling(MemoryDestination):
    """Fails over patients, each time."""

    def send(self, items):
        from tasks.deliver.port import Outcome
        from tasks.model import Finding

        for item in items:
            if item.resource_type == "Patient":
                yield Outcome(item, "retry", "500", Finding("exception", "Patient.name", "error"))
            else:
                yield self._one(item)


def test_an_id_that_the_destination_assigned_is_used_by_the_next_process(whole_day, stub):
    whole_day.destination(f"kind: fhir\nbase_url: {stub.url}\nids: server\nbackoff: 0.01\n")
    stub.integrity = True
    whole_day.drop(1)
    whole_day.run()
    deliver(whole_day)
    assert whole_day.rows("select count(*) from ledger.outbox where state <> 'confirmed'") == [(0,)]
    [(theirs,)] = whole_day.rows("select remote_id from ledger.outbox where resource_type = 'Patient' limit 1")
    assert theirs.startswith("remote-")
    with connect(whole_day.url) as connection:
        connection.execute("update ledger.outbox set state = 'pending' where resource_type = 'Patient'")
    stub.requests.clear()
    stub.bundles.clear()
    deliver(whole_day)
    urls = [url for bundle in stub.bundles for url in bundle]
    assert f"Patient/{theirs}" in urls
    assert not [url for url in urls if "?" in url]


def test_records_are_sent_on_as_they_came(whole_day):
    whole_day.destination("kind: memory\nbox: passed\nsend: pass\n")
    whole_day.drop(1)
    whole_day.run()
    assert set(deliver(whole_day)) == {"sent"}
    held = box("passed").held
    [(records,)] = whole_day.rows("select sum(received - quarantined - duplicate) from ledger.batch_slice")
    assert len(held) == records
    sent = {bytes(one).strip() for one in held.values() if one.startswith(b"MSH")}
    dropped = whole_day.day.northside[0].data
    assert sent
    assert all(one in dropped for one in sent)
    assert whole_day.rows("select distinct state from ledger.batch") == [("published",)]


@pytest.mark.slow
def test_what_the_store_holds_goes_out_as_hl7_v2_and_what_is_withdrawn_is_taken_back(whole_day, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUICE_CONNECTION_OUT", json.dumps({"root": str(tmp_path)}))
    wanted = "messages: [ADT_A04, ADT_A08, ADT_A23, ADT_A29]"
    whole_day.destination(f"kind: directory\nconnection: out\npath: given\nformat: hl7v2\n{wanted}\n")
    first = next(one for one in whole_day.day.northside if b"|ADT^A0" in one.data)
    whole_day._write("northside.hl7", [(first.name, first.data)])
    whole_day.run()
    deliver(whole_day)
    [told] = [file.read_bytes() for file in (tmp_path / "given").iterdir()]
    people, visits = (len(set(whole_day.rows(f"select id from core.{one}"))) for one in ("patient", "encounter"))
    assert told.count(b"|ADT^A08^ADT_A01|") + told.count(b"|ADT^A04^ADT_A01|") == people + visits
    # the last message of the file once more, as what takes its visit and then its person back
    lines = first.data.replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"MSH|")[-1].split(b"\r")
    kept = {line[:3]: line for line in lines[1:] if line[:3] in {b"PID", b"PV1"}}
    back = [_message(lines[0], kept, number, kind) for number, kind in enumerate((b"A23", b"A29"))]
    (tmp_path / "given" / next((tmp_path / "given").iterdir()).name).unlink()
    whole_day._write("northside.hl7", [("back.hl7", b"".join(back))])
    whole_day.run()
    deliver(whole_day)
    [told] = [file.read_bytes() for file in (tmp_path / "given").iterdir()]
    visit = kept[b"PV1"].split(b"|")[19].partition(b"^")[0]
    taken = {one.split(b"|")[7]: one for one in told.split(b"MSH|")[1:]}
    assert visit in taken[b"ADT^A23^ADT_A21"]
    assert kept[b"PID"].split(b"|")[3].partition(b"^")[0] in taken[b"ADT^A29^ADT_A21"]
    assert told.index(b"ADT^A23") < told.index(b"ADT^A29")
    assert whole_day.rows("select distinct state from ledger.batch") == [("published",)]


def _message(head: bytes, kept: dict[bytes, bytes], number: int, kind: bytes) -> bytes:
    fields = (b"MSH|" + head).split(b"|")
    fields[6], fields[8], fields[9] = b"20260310120000-0500", b"ADT^%s^ADT_A21" % kind, b"BACK%d" % number
    visit = kept[b"PV1"] if kind == b"A23" else b"PV1|1|N"
    event = b"EVN|%s|20260310120%d00-0500" % (kind, number)
    return b"\r".join([b"|".join(fields), event, kept[b"PID"], visit, b""])


@pytest.mark.parametrize("said", ["", "format: hl7v2\n", "format: hl7v2\nsend: pass\n"])
def test_killed_before_it_is_noted_a_file_is_written_again_and_is_the_same(whole_day, tmp_path, monkeypatch, said):
    monkeypatch.setenv("SLUICE_CONNECTION_OUT", json.dumps({"root": str(tmp_path)}))
    whole_day.destination(f"kind: directory\nconnection: out\npath: given\n{said}")
    first, second = whole_day.day.northside[:2]
    whole_day._write("northside.hl7", [(first.name, first.data)])
    whole_day.run()
    _killed_while_it_delivers(whole_day, tmp_path)
    given = _given(tmp_path)
    now = time.time()
    while int(time.time()) == int(now):  # whatever names a file by the clock would name it otherwise now
        time.sleep(0.05)
    # what is published meanwhile goes into files of its own
    whole_day._write("northside.hl7", [(second.name, second.data)])
    whole_day.run()
    assert set(deliver(whole_day)) <= {"sent", "unchanged"}
    after = _given(tmp_path)
    assert given.items() < after.items() != {}
    assert whole_day.rows("select count(*) from ledger.round") == [(0,)]
    assert whole_day.rows("select distinct state from ledger.outbox") == [("confirmed",)]


NEWER = """
with old as (insert into fhir.history select * from fhir.resource where resource_type = 'Patient' returning id)
update fhir.resource r set version_id = 2, published_at = now(), resource = r.resource || '{"active": true}'
from old where old.id = r.id returning 1
"""


def test_a_version_that_was_being_written_is_written_again_as_it_was_and_the_newer_one_after_it(
    whole_day, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLUICE_CONNECTION_OUT", json.dumps({"root": str(tmp_path)}))
    whole_day.destination("kind: directory\nconnection: out\npath: given\n")
    first = whole_day.day.northside[0]
    whole_day._write("northside.hl7", [(first.name, first.data)])
    whole_day.run()
    _killed_while_it_delivers(whole_day, tmp_path)
    given = _given(tmp_path)
    whole_day.rows(NEWER)
    whole_day.rows("update ledger.outbox set wanted = 2 where resource_type = 'Patient' returning 1")
    deliver(whole_day)
    after = _given(tmp_path)
    assert given.items() < after.items()
    newer = [json.loads(line) for name in after.keys() - given.keys() for line in after[name].splitlines()]
    assert {(one["resourceType"], one["meta"]["versionId"], one["active"]) for one in newer} == {("Patient", "2", True)}
    assert whole_day.rows("select distinct state, confirmed = wanted from ledger.outbox") == [("confirmed", True)]


def _killed_while_it_delivers(day, tmp_path):
    failpoints.arm(tmp_path, "sent-unconfirmed", "kill")
    killed = multiprocessing.get_context("fork").Process(target=_delivered_with, args=(day, tmp_path))
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL


def _given(tmp_path):
    return {file.name: file.read_bytes() for file in (tmp_path / "given").iterdir()}


def _delivered_with(day, points):
    failpoints.watch(points)
    deliver(day)


def test_a_snapshot_is_the_whole_of_a_views_table(whole_day, tmp_path, monkeypatch):
    monkeypatch.setenv("SLUICE_CONNECTION_OUT", json.dumps({"root": str(tmp_path)}))
    file = "kind: directory\nconnection: out\npath: given\nformat: csv\nview: patient\nsnapshot: true\nname: all.csv\n"
    whole_day.destination(file)
    whole_day.drop(1)
    whole_day.run()
    deliver(whole_day)
    [(patients,)] = whole_day.rows("select count(*) from core.patient")
    lines = (tmp_path / "given/all.csv").read_text().splitlines()
    assert len(lines) == patients + 1 > 10


def test_a_paused_destination_is_asked_again_later_and_later(warehouse_url):
    with connect(warehouse_url) as connection:
        for _ in range(12):
            outbox.pause(connection, "ehr", "503")
        query = "select extract(epoch from paused_until - now()), why from ledger.destination"
        with psycopg.connect(warehouse_url) as other:
            [(seconds, why)] = other.execute(query).fetchall()
        assert (290 < seconds <= 300, why) == (True, "503")
        outbox.pause(connection, "ehr", "429", 7)
        with psycopg.connect(warehouse_url) as other:
            [(seconds, _)] = other.execute(query).fetchall()
        assert 0 < seconds <= 7
        outbox.resume(connection, "ehr")
        assert json.dumps(connection.execute("select failures from ledger.destination").fetchall()) == "[[0]]"
