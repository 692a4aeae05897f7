"""What is deployed with other content than before is a configuration change that the trail keeps."""

from __future__ import annotations

import pytest

from deployments.changes import note_changes
from tasks.ledger import audit
from tasks.ledger.db import connect

FEED = "source: {kind: directory, connection: drop}\nformat: hl7v2\ntimezone: America/New_York\n"
OWN = "feed:northside.adt"


@pytest.fixture
def feed_file(warehouse_url, tmp_path, monkeypatch):
    path = tmp_path / "feeds" / "northside.adt.yaml"
    path.parent.mkdir()
    path.write_text(FEED)
    (tmp_path / "destinations").mkdir()
    (tmp_path / "destinations" / "ehr.yaml").write_text("kind: fhir\nbase_url: http://127.0.0.1:1/\n")
    monkeypatch.setenv("SLUICE_FEEDS", str(path.parent))
    monkeypatch.setenv("SLUICE_DESTINATIONS", str(tmp_path / "destinations"))
    monkeypatch.setenv("SLUICE_ACTOR", "ada")
    return path


def test_only_a_change_is_noted_and_by_whom(warehouse_url, feed_file):
    first = note_changes(["northside.adt"])
    assert {OWN, "destination:ehr", "checks:hospital"} <= set(first)
    assert note_changes(["northside.adt"]) == []
    feed_file.write_text(FEED + "on_correction: add\n")
    assert note_changes(["northside.adt"]) == [OWN]
    with connect(warehouse_url) as connection:
        acts = list(audit.acts(connection, subject=OWN))
        assert audit.verify(connection).problems == ()
    assert [(act.actor, act.action, act.subject) for act in acts] == [("ada", "configure", OWN)] * 2
    assert acts[0].reason != acts[1].reason


def test_going_back_to_an_earlier_content_is_a_change_too(warehouse_url, feed_file):
    note_changes(["northside.adt"])
    feed_file.write_text(FEED + "on_correction: add\n")
    note_changes(["northside.adt"])
    feed_file.write_text(FEED)
    assert note_changes(["northside.adt"]) == [OWN]


def test_a_map_and_a_destination_that_change_are_changes(warehouse_url, feed_file, tmp_path):
    own = tmp_path / "people.yaml"
    own.write_text("event_time: $at\ncolumns: {id: {}, at: {type: datetime}}\nresources: {}\n")
    feed_file.write_text(FEED.replace("hl7v2", "csv") + f"mapping: {own}\n")
    note_changes(["northside.adt"])
    own.write_text(own.read_text() + "# mended\n")
    (tmp_path / "destinations" / "ehr.yaml").write_text("kind: fhir\nbase_url: http://127.0.0.1:2/\n")
    assert note_changes(["northside.adt"]) == [OWN, "destination:ehr"]
