"""docs/operations.md: every incident is brought about, every command typed, what it prints is what the page shows."""

from __future__ import annotations

import base64
import os
import shlex
import sys
from datetime import UTC, datetime, timedelta

import pytest

from deployments.cli.main import main
from tasks.ledger import expectations, outbox
from tasks.ledger.db import connect
from tests.integration.spine.test_merges import merge
from tests.walks import SECTIONS, THROUGH_PREFECT, says, walks

# great-expectations imports what Python deprecates
pytestmark = [pytest.mark.usefixtures("sound"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
FEED = """
source: {{kind: directory, connection: drop, ready: {{stable_polls: 1}}}}
format: csv
mapping: {0}
timezone: America/New_York
route: [{{to: [warehouse, ehr]}}]
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


@pytest.fixture
def bring_about(site, adt, tmp_path, monkeypatch):
    """Bring about the incident of a section; what a command writes is written beside it."""
    monkeypatch.chdir(tmp_path)

    def remap(text):
        path = tmp_path / f"people-{len(list(tmp_path.glob('people-*')))}.yaml"
        path.write_text(text)
        site.configure(FEED.format(path))

    def held():
        site.configure("checks: hospital\n" + (site.feeds / f"{site.feed}.yaml").read_text())
        site.write("day.hl7", adt(mrn="1"), adt(mrn="2", family='""', control="nameless"))
        site.run()

    def people():
        remap(MAP)
        site.write("people.csv", ROWS)
        site.run()

    def mended():
        people()
        remap(MAP.replace('"%m/%d/%Y"', '["%m/%d/%Y", "%d.%m.%Y"]'))

    def gendered():
        people()
        remap(MAP + "      gender: unknown\n")

    def delivered():
        people()
        with connect(site.url) as connection:
            sent = [
                outbox.Answer(one.resource_type, one.id, one.version, "sent", "200")
                for one in outbox.pending(connection, "ehr", 10)
            ]
            outbox.settle(connection, "ehr", sent)

    def refusing():
        remap(MAP)
        site.write("people.csv", ROWS + "3,Baker,02/01/1980,2026-03-09T10:00:00\n")
        site.run()
        with connect(site.url) as connection:
            one = min(
                outbox.pending(connection, "ehr", 10), key=lambda row: row.resource["name"][0]["family"] != "Okafor"
            )
            said = outbox.Answer(one.resource_type, one.id, one.version, "refused", "422", "value-set at Patient")
            outbox.settle(connection, "ehr", [said])
            outbox.pause(connection, "ehr", "no-answer")

    def late():
        people()
        path = site.feeds / f"{site.feed}.yaml"
        site.configure(path.read_text() + 'expect: {by: "00:01"}\n')
        with connect(site.url) as connection:
            expectations.begin(connection, site.feed, datetime.now(UTC) - timedelta(days=4))

    def rotated():
        people()
        old = os.environ["SLUICE_LANDING_KEY"]
        monkeypatch.setenv("SLUICE_LANDING_KEY", f"new:{base64.b64encode(bytes(32)).decode()},{old}")

    def merged():
        site.write("day.hl7", adt(mrn="1"), adt(mrn="2", control="other"))
        site.write("a40.hl7", merge("1", "2", "20260310100000-0500"))
        site.run()

    incidents = {
        2: refusing,
        3: late,
        5: mended,
        8: held,
        9: held,
        10: gendered,
        11: delivered,
        14: delivered,
        15: rotated,
        16: merged,
    }
    return lambda number: incidents.get(number, people)()


def somebody(site):
    """The patient of whom a page's command speaks."""
    rows = site.rows(
        "select coalesce((select retired_id from fhir.identity), id) from fhir.resource "
        "where resource_type = 'Patient' order by 1 limit 1"
    )
    return f"Patient/{rows[0][0]}" if rows else "Patient/nobody"


@pytest.mark.parametrize("number", sorted(SECTIONS.keys() - THROUGH_PREFECT))
def test_what_the_page_says_is_printed_is_printed(site, bring_about, number, capfd, monkeypatch):
    bring_about(number)
    commands = walks(number)
    assert commands
    capfd.readouterr()
    for command, expected in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command.replace("Patient/…", somebody(site))))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert not ended.value.code, err
        assert says(expected, out), f"{command}\n{out}"


def test_the_page_walks_through_every_incident_in_order():
    assert sorted(SECTIONS) == list(range(1, 17))
