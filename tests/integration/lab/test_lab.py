"""The feed lab on real files: a snapshot that is kept, a map that changes, and what is deployed beside it."""

from __future__ import annotations

import gzip
import json
import sys

import pytest

from deployments.changes import note_changes
from deployments.cli.main import main
from deployments.lab import corpus, deployed
from deployments.lab.compare import by_element, compare, value_at
from tasks.ledger.db import connect

FEED = """
source: {{kind: directory, connection: drop}}
format: csv
mapping: {0}
timezone: America/New_York
"""
MAP = """
event_time: $at
columns:
  id: {required: true}
  name: {required: true}
  born: {type: date, format: "%m/%d/%Y"}
  at: {type: datetime, required: true}
resources:
  patient:
    type: Patient
    key: [$id]
    living: true
    elements:
      name: [{use: official, family: $name}]
      birthDate: $born
"""
ROWS = "id,name,born,at\n1,Okafor,01/31/1980,2026-03-09T10:00:00\n2,Adams,31.01.1980,2026-03-09T10:00:00\n"


class Desk:
    """An engineer with a feed, a map of its own and a corpus."""

    def __init__(self, folder, monkeypatch, capfd):
        self.map, self.corpus, self.report = folder / "people.yaml", folder / "corpus", folder / "report.html"
        self.patch, self.capfd = monkeypatch, capfd
        (folder / "feeds").mkdir()
        self.corpus.mkdir()
        self.map.write_text(MAP)
        (folder / "feeds" / "north.people.yaml").write_text(FEED.format(self.map))
        (self.corpus / "day.csv").write_text(ROWS)
        monkeypatch.setenv("SLUICE_FEEDS", str(folder / "feeds"))
        monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps({"root": str(folder)}))

    def sluice(self, *arguments):
        """Run the command; return its exit code and what it printed."""
        self.capfd.readouterr()
        self.patch.setattr(
            sys, "argv", ["sluice", "feed", "test", "north.people", "--corpus", str(self.corpus), *arguments]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self.capfd.readouterr()
        return ended.value.code or 0, out + err

    def remap(self, old, new):
        """Change the map, and let this process forget what it read of it."""
        from mappings.engine import csv_file

        assert old in self.map.read_text()
        self.map.write_text(self.map.read_text().replace(old, new))
        for name in dir(csv_file):
            clear = getattr(getattr(csv_file, name), "cache_clear", None)
            if clear:
                clear()


@pytest.fixture
def desk(tmp_path, monkeypatch, capfd):
    return Desk(tmp_path, monkeypatch, capfd)


def test_without_a_snapshot_a_check_fails_and_says_how_to_make_one(desk):
    code, said = desk.sluice("--no-deployed")
    assert code == 1
    assert "--update" in said
    assert not (desk.corpus / "expected").exists()


def test_a_snapshot_is_written_once_and_holds_every_record(desk):
    assert desk.sluice("--no-deployed", "--update")[0] == 0
    stored = corpus.snapshot(desk.corpus)
    assert [(case["index"], case["outcome"]) for case in stored] == [
        (1, "converted"),
        (2, "quarantined"),
    ]
    code, said = desk.sluice("--no-deployed")
    assert code == 0
    assert "no difference" in said


def test_a_map_that_changes_is_told_by_element_and_without_a_value(desk):
    desk.sluice("--no-deployed", "--update")
    desk.remap("use: official", "use: usual")
    code, said = desk.sluice("--no-deployed", "--report", str(desk.report))
    assert code == 1
    assert "1 1 Patient name.use changed" in " ".join(said.split())
    page = desk.report.read_text()
    assert "name[0].use" in page
    assert not any(word in said + page for word in ("Okafor", "1980", "official", "usual"))
    desk.sluice("--no-deployed", "--report", str(desk.report), "--values")
    assert "official" in desk.report.read_text()


def test_a_record_that_becomes_good_and_one_that_is_new_are_differences(desk):
    desk.sluice("--no-deployed", "--update")
    desk.remap('"%m/%d/%Y"', '["%m/%d/%Y", "%d.%m.%Y"]')
    (desk.corpus / "more.csv").write_text("id,name,born,at\n3,New,,2026-03-09T10:00:00\n")
    code, said = desk.sluice("--no-deployed", "--json")
    found = json.loads(said)["snapshot"]["elements"]
    told = {(one["type"], one["path"], one["change"]) for one in found}
    assert code == 1
    assert {("(record)", "outcome", "changed"), ("(record)", "record", "added"), ("Patient", "", "added")} <= told
    assert ("(record)", "findings: error not-a-date born", "removed") in told


def test_what_is_deployed_is_what_the_maps_were_then(desk, warehouse_url):
    desk.sluice("--no-deployed", "--update")
    code, said = desk.sluice()
    assert code == 2
    assert "never deployed" in said
    note_changes(["north.people"])
    assert desk.sluice("--strict")[0] == 0
    desk.remap("      birthDate: $born\n", "      gender: unknown\n      birthDate: $born\n")
    desk.sluice("--update")
    code, said = desk.sluice()
    assert code == 0, "the snapshot agrees, and a difference to what is deployed is what a change is for"
    assert "1 1 Patient gender added" in " ".join(said.split())
    assert desk.sluice("--strict")[0] == 1
    note_changes(["north.people"])
    assert desk.sluice("--strict")[0] == 0


def test_only_data_is_kept_of_what_is_deployed(desk, warehouse_url):
    import io
    import tarfile

    note_changes(["north.people"])
    with connect(warehouse_url) as connection:
        kept = deployed.known(connection, "north.people")
    with tarfile.open(fileobj=io.BytesIO(kept.maps), mode="r:xz") as tar:
        names = tar.getnames()
    assert {"own.yaml", "keys.yaml", "v2/segments/PID.yaml"} <= set(names)
    assert not any(name.endswith(".py") for name in names)


def test_archives_and_folders_in_a_corpus_are_opened(desk):
    (desk.corpus / "sub").mkdir()
    (desk.corpus / "sub" / "day.csv.gz").write_bytes(gzip.compress(ROWS.encode()))
    desk.sluice("--no-deployed", "--update")
    stored = corpus.snapshot(desk.corpus)
    assert len(stored) == 4
    assert desk.sluice("--no-deployed")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "what"), [(("--corpus", "/no/such"), "no such folder"), (("--report", "/no/such/x"), "written")]
)
def test_a_mistake_is_one_line(desk, arguments, what):
    code, said = desk.sluice("--no-deployed", *arguments)
    assert code == 2
    assert what in said
    assert len(said.splitlines()) == 1


def test_an_empty_corpus_is_a_mistake(desk):
    (desk.corpus / "day.csv").unlink()
    code, said = desk.sluice("--no-deployed")
    assert (code, "no file in it" in said) == (2, True)


def test_comparing_is_by_file_and_index():
    one = {"file": "a", "index": 1, "place": "line 2", "outcome": "converted", "findings": [], "event_time": None}
    one |= {"to": ["warehouse"], "deleted": [], "resources": [{"resourceType": "Patient", "id": "1", "name": [{}, {}]}]}
    other = {**one, "to": [], "resources": [{"resourceType": "Patient", "id": "1", "name": [{}, {"family": "x"}]}]}
    assert compare([one], [one]) == []
    found = compare([one], [other])
    assert [(each.path, each.change) for each in found] == [("to: warehouse", "removed"), ("name[1].family", "added")]
    assert found[1].values == (None, "x")
    assert by_element(found)[0]["records"] == 1
    assert value_at(other["resources"][0], "name[7].family") is None
