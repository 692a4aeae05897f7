"""Runs tell of themselves as OpenLineage events: to a file, to a server; and nothing stops where nobody listens."""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.errors import ConfigError
from tasks.ledger.db import connect
from tasks.lineage.openlineage import of_feed, run_events
from tasks.settings import openlineage

pytestmark = pytest.mark.usefixtures("sound")
RUN = str(uuid.uuid4())


def one_run(site, *, failing=False):
    """What a flow does: tell of the start, work, ask the ledger, tell of the end."""
    with run_events(f"ingest.{site.feed}", RUN) as told:
        site.run()
        if failing:
            raise ConfigError("the map is broken")
        with connect(site.url) as connection:
            connection.execute("update ledger.batch set run_id = %s, published_by = %s", (RUN, RUN))
            of_feed(told, connection, site.feed, RUN)


@pytest.fixture
def written(site, adt, tmp_path, monkeypatch):
    """Events go to a file; two messages wait, of which one is broken."""
    path = tmp_path / "events.ndjson"
    monkeypatch.setenv("SLUICE_OPENLINEAGE", f"file:{path}")
    site.write("day.hl7", adt(mrn="1", family="Zzyzx"), "MSH|^~\\&|A\rPID|1||2^^^NORTHSIDE^MR||Zzyzx\r")
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_starts_and_completes_with_counts_and_columns(site, written):
    one_run(site)
    start, end = written()
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    assert {event["run"]["runId"] for event in (start, end)} == {RUN}
    assert (end["job"]["namespace"], end["job"]["name"]) == ("sluice", "ingest.northside.adt")
    [read] = end["inputs"]
    assert (read["namespace"], read["name"]) == ("sluice://partner/northside", "adt")
    assert read["inputFacets"]["inputStatistics"]["rowCount"] == 2
    tags = {one["key"]: one["value"] for one in end["run"]["facets"]["tags"]["tags"]}
    assert (tags["received"], tags["published"], tags["quarantined"]) == ("2", "1", "1")
    made = {one["name"].partition(".")[2]: one for one in end["outputs"]}
    assert made["fhir.Patient"]["outputFacets"]["outputStatistics"]["rowCount"] == 1
    born = made["core.patient"]["facets"]["columnLineage"]["fields"]["birth_date"]["inputFields"]
    assert [(one["name"].partition(".")[2], one["field"]) for one in born] == [("fhir.Patient", "birthDate")]
    assert "core.observation" not in made, "no observation came"


def test_no_value_and_no_password_stands_in_an_event(site, written):
    one_run(site)
    said = json.dumps(written())
    assert "Zzyzx" not in said
    assert "day.hl7" not in said
    assert site.url.partition("@")[0].rpartition(":")[2] not in said


def test_a_run_that_fails_says_so_and_its_error_stays(site, written):
    with pytest.raises(ConfigError, match="broken"):
        one_run(site, failing=True)
    assert [event["eventType"] for event in written()] == ["START", "FAIL"]


def test_nothing_is_told_unless_somebody_asked(site, adt, monkeypatch):
    monkeypatch.delenv("SLUICE_OPENLINEAGE", raising=False)
    assert openlineage() is None
    with run_events("ingest.x", RUN) as told:
        assert not told.wanted


@pytest.mark.parametrize("where", ["nowhere", "ftp://x"])
def test_another_kind_of_place_is_a_mistake(monkeypatch, where):
    monkeypatch.setenv("SLUICE_OPENLINEAGE", where)
    with pytest.raises(ConfigError, match="SLUICE_OPENLINEAGE"):
        openlineage()


@pytest.fixture
def server():
    """A server that keeps what is posted to it."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, self.headers.get("Authorization"), json.loads(body)))
            self.send_response(201)
            self.end_headers()

        def log_message(self, *_):
            """Keep quiet."""

    running = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", got
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_server_gets_the_events_with_the_key(server, monkeypatch):
    address, got = server
    monkeypatch.setenv("SLUICE_OPENLINEAGE", address)
    monkeypatch.setenv("SLUICE_OPENLINEAGE_KEY", "secret")
    with run_events("deliver.ehr", RUN) as told:
        told.destinations = {"ehr": 7}
    assert [(path, key, event["eventType"]) for path, key, event in got] == [
        ("/api/v1/lineage", "Bearer secret", "START"),
        ("/api/v1/lineage", "Bearer secret", "COMPLETE"),
    ]
    assert got[1][2]["outputs"][0]["name"] == "ehr"


def test_a_server_that_is_away_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("SLUICE_OPENLINEAGE", "http://127.0.0.1:9")
    with run_events("deliver.ehr", RUN):
        pass
    monkeypatch.setenv("SLUICE_OPENLINEAGE", f"file:{tmp_path}")
    with run_events("deliver.ehr", RUN):
        pass
