"""Merges, admissions and discharges in any order, and one poisoned record among very many."""

from __future__ import annotations

import itertools
import os

import pytest

from infra.dev.partners import big_csv
from infra.dev.partners.model import MARKER_NAME

WHEN = "20260309{0}0000-0500"
OF_THE_BAD_ONE = ("deliveries", "totals", "quarantine")
"""What a record that stopped itself must change."""
MERGE = "MRG|1002^^^NORTHSIDE^MR"
CSV = """
source: {kind: directory, connection: drop, ready: {stable_polls: 1}}
format: csv
mapping: eastlab-results
timezone: America/New_York
"""


@pytest.mark.slow
def test_a_merge_before_the_admission_that_it_merges_and_any_other_order_give_the_same(site, adt, sound) -> None:
    said = [
        adt("A01", when=WHEN.format("09"), mrn="1001"),
        adt("A01", when=WHEN.format("10"), mrn="1002", family="Maiden"),
        adt("A40", when=WHEN.format("11"), mrn="1001", extra=(MERGE,)),
        adt("A03", when=WHEN.format("12"), mrn="1002", family="Maiden"),
    ]
    pictures = []
    for order in itertools.permutations(said):
        site.empty()
        site.write("day.hl7", *order)
        site.run()
        # the file's own digest differs, as its messages stand in another order
        pictures.append(site.picture("deliveries"))
    assert any("replace" in row[3] for row in site.state()), "the merge is known"
    assert all(one.differences(pictures[0]) == [] for one in pictures)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_one_poisoned_record_among_a_hundred_thousand_stops_itself_alone(site, sound) -> None:
    rows = int(os.environ.get("SLUICE_TEST_RECORDS", "100000"))
    site.configure(CSV)
    lines = b"".join(big_csv(rows)).split(b"\n")
    site.write("day.csv", (b"\n".join(lines[: rows // 2] + lines[rows // 2 + 1 :])).decode())
    calm = site.run()
    undisturbed = site.picture(*OF_THE_BAD_ONE)
    assert undisturbed.size > rows
    site.empty()
    lines[rows // 2] = f'{MARKER_NAME},"'.encode() + b"\x00" * 10 + b'",,,,not a date'
    site.write("day.csv", b"\n".join(lines).decode())
    counts = site.run()
    assert counts == {**calm, "received": calm["received"] + 1, "quarantined": calm["quarantined"] + 1}
    assert counts["in_flight"] == 0
    assert site.picture(*OF_THE_BAD_ONE).differences(undisturbed) == [], "the others are what they are without it"


def test_a_message_that_would_fill_memory_is_quarantined_and_its_neighbours_are_published(site, adt, sound) -> None:
    site.write("day.hl7", adt(mrn="1"), adt(mrn="3"))
    site.run()
    undisturbed = site.picture(*OF_THE_BAD_ONE)
    site.empty()
    bomb = adt(mrn="2").replace("^Ada", "^Ada" + "~" * 600_000)
    site.write("day.hl7", adt(mrn="1"), bomb, adt(mrn="3"))
    counts = site.run()
    assert (counts["received"], counts["published"], counts["quarantined"]) == (3, 2, 1)
    assert site.rows("select code from ledger.quarantine") == [("message-too-complex",)]
    assert site.picture(*OF_THE_BAD_ONE).differences(undisturbed) == []
