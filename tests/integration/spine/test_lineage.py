"""Lineage of whatever an operator has in hand, both ways, as text, and as a graph that needs nothing from elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tasks.ledger import outbox
from tasks.ledger.db import connect
from tasks.lineage.graph import html, svg
from tasks.lineage.trace import trace

pytestmark = pytest.mark.usefixtures("sound")
RUN = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def published(site, adt):
    """One delivery of two messages, published, sent to a destination that has ids of its own."""
    site.configure((site.feeds / f"{site.feed}.yaml").read_text() + "route: [{to: [warehouse, ehr]}]\n")
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    with connect(site.url) as connection:
        waiting = outbox.pending(connection, "ehr", 1000)
        said = [
            outbox.Answer(one.resource_type, one.id, one.version, "sent", "201", remote_id=f"r{number}")
            for number, one in enumerate(waiting)
        ]
        outbox.settle(connection, "ehr", said)
        connection.execute("update ledger.batch set run_id = %s", (RUN,))
        connection.execute("update ledger.delivery set run_id = %s", (RUN,))
    [(patient, remote)] = site.rows(
        "select o.id, o.remote_id from ledger.outbox o join fhir.resource r using (resource_type, id) "
        "where resource_type = 'Patient' and r.record_id & 4294967295 = 2"
    )
    return {"patient": patient, "remote": remote}


def steps(site, thing):
    with connect(site.url) as connection:
        return trace(connection, thing)


def only(found, kind):
    return [step for step in found if step["kind"] == kind]


@pytest.mark.parametrize("thing", ["Patient/{patient}", "{patient}", "core.patient/{patient}", "ehr/Patient/{remote}"])
def test_a_resource_leads_to_its_line_its_run_and_its_destination(site, published, thing):
    found = steps(site, thing.format(**published))
    [version], [record], [delivery], [sent] = (only(found, k) for k in ("version", "record", "delivery", "destination"))
    assert version["resource"] == f"Patient/{published['patient']}"
    assert (version["record"], record["record"], record["place"]) == ("1:2", "1:2", "message 2")
    assert (record["run"], record["state"], delivery["name"]) == (RUN, "published", "day.hl7")
    assert version["mapping_version"] == record["mapping_version"]
    assert (sent["destination"], sent["status"], sent["version"]) == ("ehr", "sent", 1)


def test_a_record_leads_to_everything_that_was_made_of_it(site, published):
    found = steps(site, "1:2")
    assert f"Patient/{published['patient']}" in [step["resource"] for step in only(found, "version")]
    assert {step["record"] for step in only(found, "version")} == {"1:2"}
    sent = {step["resource"] for step in only(found, "destination")}
    assert sent == {step["resource"] for step in only(found, "version")}


def test_a_record_leads_to_the_patient_of_whom_a_later_one_of_its_batch_speaks_too(site, adt):
    site.write("day.hl7", adt(mrn="1", control="a"), adt(mrn="1", control="b", when="20260309120000-0500"))
    site.run()
    [(patient,)] = site.rows("select id from core.patient")
    found = steps(site, "1:1")
    assert f"Patient/{patient}" not in [step["resource"] for step in only(found, "version")]
    [said] = [step for step in only(found, "contribution") if step["resource"] == f"Patient/{patient}"]
    assert (said["record"], said["version"], said["batch"]) == ("1:1", 1, 1)
    assert "Patient version 1, of several" in svg(found)
    assert only(steps(site, "1:2"), "contribution") == []


@pytest.mark.parametrize("thing", ["1", "batch:1", RUN])
def test_a_delivery_a_batch_and_a_run_lead_to_each_other(site, published, thing):
    found = steps(site, thing)
    [batch], [delivery] = only(found, "batch"), only(found, "delivery")
    assert (batch["batch"], batch["run"], batch["delivery"], batch["first"], batch["last"]) == (1, RUN, 1, 1, 2)
    assert (delivery["delivery"], delivery["run"]) == (1, RUN)


@pytest.mark.parametrize(
    "thing", ["99", "99:1", "batch:99", "Patient/none", "nonsense", "", "core.no/x", RUN[:-1] + "9"]
)
def test_what_nobody_knows_has_no_lineage(site, published, thing):
    assert steps(site, thing) == []


def test_the_graph_draws_every_step_once_and_links_what_belongs_together(site, published):
    found = steps(site, f"Patient/{published['patient']}")
    drawn = ET.fromstring(svg(found, "http://127.0.0.1:1/runs/flow-run"))  # noqa: S314
    space = "{http://www.w3.org/2000/svg}"
    assert len(drawn.findall(f".//{space}rect")) == 6, "delivery, record, run, batch, version, destination"
    assert len(drawn.findall(f"{space}path")) == 6
    [link] = drawn.findall(f"{space}a")
    assert link.get("href") == f"http://127.0.0.1:1/runs/flow-run/{RUN}"


def test_the_page_needs_nothing_from_elsewhere_and_escapes_names(site, adt):
    site.write("<script>alert(1)<.hl7", adt(mrn="1"))
    site.run()
    page = html(steps(site, "1"), "<1>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not any(word in page for word in ("src=", "@import", "url("))


def test_a_version_a_row_and_a_receipt_lead_to_their_record(site, published):
    [(receipt,)] = site.rows("select id from ledger.load_receipt where resource_id = %s", published["patient"])
    for thing in (f"Patient/{published['patient']}/_history/1", f"receipt:{receipt}"):
        found = steps(site, thing)
        [version], [record], [sent] = (only(found, kind) for kind in ("version", "record", "destination"))
        assert (version["version"], record["record"], sent["receipt"]) == (1, "1:2", receipt)
    assert steps(site, f"Patient/{published['patient']}/_history/2") == []


@pytest.mark.parametrize("name", ["northside.adt/day.hl7", "file/day.hl7"])
def test_a_partners_file_and_a_place_in_it_lead_to_what_was_made(site, published, name):
    assert [step["delivery"] for step in only(steps(site, name), "delivery")] == [1]
    for number in (1, 2):
        found = steps(site, f"{name}#message {number}")
        assert [step["record"] for step in only(found, "record")] == [f"1:{number}"]
    assert steps(site, "northside.other/day.hl7") == []


def test_a_line_inside_a_quoted_row_belongs_to_the_row(site, tmp_path):
    path = tmp_path / "people.yaml"
    path.write_text(
        "event_time: $at\ncolumns: {id: {required: true}, name: {}, at: {type: datetime, required: true}}\n"
        "resources: {patient: {type: Patient, key: [$id], living: true, elements: {name: [{family: $name}]}}}\n"
    )
    site.configure(
        "source: {kind: directory, connection: drop, ready: {stable_polls: 1}}\n"
        f"format: csv\nmapping: {path}\ntimezone: America/New_York\n"
    )
    rows = ["1,One", '2,"Two\nlines"', "3,Three"]
    site.write("people.csv", "id,name,at\n" + "".join(f"{row},2026-03-09T10:00:00Z\n" for row in rows))
    site.run()
    for line, ordinal in ((2, 1), (3, 2), (4, 2), (5, 3)):
        [record] = only(steps(site, f"northside.adt/people.csv#line {line}"), "record")
        assert record["record"] == f"1:{ordinal}"


def test_a_mapping_version_leads_to_its_batches(site, published):
    [(version,)] = site.rows("select mapping_version from ledger.batch")
    [mapping, batch] = steps(site, f"mapping:{version}")
    assert (mapping["batches"], mapping["feeds"], batch["batch"]) == (1, [site.feed], 1)


def test_who_was_erased_is_known_as_that_and_as_nothing_else(site, published):
    from tasks.erase.run import erase

    erase(f"Patient/{published['patient']}", "ada", "asked for")
    with connect(site.url) as connection:
        said = [
            outbox.Answer(one.resource_type, one.id, one.version, "sent", "204")
            for one in outbox.pending(connection, "ehr", 1000)
        ]
        outbox.settle(connection, "ehr", said)
    from tasks.erase.run import finish

    finish()
    [step] = steps(site, f"Patient/{published['patient']}")
    assert (step["kind"], step["erasure"]) == ("erasure", 1)
    [record] = only(steps(site, "1:2"), "record")
    assert (record["state"], record["erasure"]) == ("discarded", 1)


QUESTIONS = (
    "Patient/{patient}",
    "{patient}",
    "core.patient/{patient}",
    "ehr/Patient/{remote}",
    "1:2",
    "1",
    "batch:1",
    RUN,
    "Patient/{patient}/_history/1",
    "receipt:1",
    "northside.adt/day.hl7",
    "file/day.hl7#message 2",
    "mapping:x",
)


@pytest.mark.parametrize("thing", QUESTIONS)
def test_no_question_reads_a_large_table_from_end_to_end(site, published, thing):
    asked = []
    with connect(site.url) as connection:
        execute = connection.execute

        class Listening:
            """A connection that remembers what is asked."""

            @staticmethod
            def execute(query, params=None):
                asked.append((query, params))
                return execute(query, params)

        trace(Listening, thing.format(**published))
        connection.execute("set enable_seqscan = off")
        connection.execute("set plan_cache_mode = force_generic_plan")
        plans = []
        for query, params in asked:
            text = query if isinstance(query, bytes) else query.encode()
            plans += [row[0] for row in connection.execute(b"explain " + text, params).fetchall()]
    large = ("resource_", "history_", "record", "contribution", "load_receipt", "outbox", "delivery", "batch")
    read_whole = [line for line in plans if "Seq Scan on" in line and any(name in line for name in large)]
    assert asked
    assert read_whole == []
