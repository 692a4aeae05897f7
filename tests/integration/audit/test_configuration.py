"""A feed that is deployed with other content than before is a configuration change that the trail keeps."""

from __future__ import annotations

import pytest

from deployments.changes import note_changes
from tasks.ledger import audit
from tasks.ledger.db import connect

FEED = "source: {kind: directory, connection: drop}\nformat: hl7v2\ntimezone: America/New_York\n"


@pytest.fixture
def feed_file(warehouse_url, tmp_path, monkeypatch):
    path = tmp_path / "northside.adt.yaml"
    path.write_text(FEED)
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path))
    monkeypatch.setenv("SLUICE_ACTOR", "ada")
    return path


def test_only_a_change_is_noted_and_by_whom(warehouse_url, feed_file):
    assert note_changes(["northside.adt"]) == ["northside.adt"]
    assert note_changes(["northside.adt"]) == []
    feed_file.write_text(FEED + "on_correction: add\n")
    assert note_changes(["northside.adt"]) == ["northside.adt"]
    with connect(warehouse_url) as connection:
        acts = list(audit.acts(connection))
        assert audit.verify(connection).problems == ()
    assert [(act.actor, act.action, act.subject) for act in acts] == [("ada", "configure", "feed:northside.adt")] * 2
    assert acts[0].reason != acts[1].reason


def test_going_back_to_an_earlier_content_is_a_change_too(warehouse_url, feed_file):
    note_changes(["northside.adt"])
    feed_file.write_text(FEED + "on_correction: add\n")
    note_changes(["northside.adt"])
    feed_file.write_text(FEED)
    assert note_changes(["northside.adt"]) == ["northside.adt"]
