"""A batch that a great-expectations check holds: nothing of it is seen, and an operator releases or rejects it."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError, Permanent
from tasks.feed import Feed
from tasks.gate.gate import decide as judge
from tasks.gate.held import held, reject, release
from tasks.ledger import audit, claims
from tasks.ledger.db import connect

# great-expectations imports what Python deprecates
pytestmark = [pytest.mark.usefixtures("sound"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
CHECKED = "checks: hospital\n"
NAMELESS = {"family": '""', "control": "nameless"}
"""A patient without a name: deployments/checks/hospital.yaml wants a family name of 95 in 100 patients."""


@pytest.fixture
def held_batch(site, adt):
    """A batch of two records of which one lacks what the check wants."""
    site.configure(CHECKED + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2", **NAMELESS))
    counts = site.run()
    assert (counts["published"], counts["in_flight"]) == (0, 2)
    assert site.state() == []
    with connect(site.url) as connection:
        [row] = held(connection, site.feed)
    return row


def decided(site, decide, batch, reason="looked at it with the partner"):
    with connect(site.url) as connection:
        return decide(connection, batch, "ada", reason)


def test_a_held_batch_is_listed_with_the_check_that_failed_and_no_value(held_batch):
    assert held_batch["records"] == 2
    assert held_batch["deliveries"] == ["day.hl7"]
    assert held_batch["failed"] == ["patient expect_column_values_to_not_be_null family"]
    assert "Okafor" not in str(held_batch)


def test_a_released_batch_is_published_by_the_next_run_and_a_held_one_is_not(site, held_batch):
    assert site.run()["in_flight"] == 2
    assert decided(site, release, held_batch["batch"]) == 2
    counts = site.run()
    assert (counts["published"], counts["in_flight"]) == (2, 0)
    assert len(site.resources("Patient")) == 2
    [(verdict,)] = site.rows("select verdict from ledger.batch")
    assert verdict["passed"]
    assert verdict["released"]["by"] == "ada"
    assert [item["held"] for item in verdict["results"] if item["place"] == "family"] == [False]


def test_a_rejected_batch_ends_its_records_as_discarded(site, held_batch):
    assert decided(site, reject, held_batch["batch"]) == 2
    counts = site.run()
    assert (counts["published"], counts["discarded"], counts["in_flight"]) == (0, 2, 0)
    assert site.state() == []
    assert site.rows("select count(*) from staging.resource") == [(0,)]


def test_what_was_rejected_can_be_sent_again(site, adt, held_batch):
    decided(site, reject, held_batch["batch"])
    site.write("again.hl7", adt(mrn="1"))
    counts = site.run()
    assert (counts["published"], counts["discarded"], counts["duplicate"]) == (1, 2, 0)


def test_a_rejected_correction_takes_nothing_back(site, adt):
    site.configure(CHECKED + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("day.hl7", adt(mrn="1"), adt(mrn="3"))
    site.run()
    before = site.state()
    site.write("day.hl7", adt(mrn="2", **NAMELESS))
    site.run()
    [(batch,)] = site.rows("select id from ledger.batch where state = 'held'")
    decided(site, reject, batch)
    site.run()
    assert site.state() == before


def test_a_number_that_a_crashed_server_gave_to_another_feeds_batch_is_not_judged_as_ones_own(site, held_batch):
    other = Feed.model_construct(name="south.adt", partner="south")
    with connect(site.url) as connection, claims.claim(site.url, "feed:south.adt", "run", 60) as token:
        for batch in (held_batch["batch"], held_batch["batch"] + 1000):
            with pytest.raises(Permanent, match=r"south\.adt: batch \d+ was forgotten"):
                judge(connection, other, batch, token)
        assert [row["batch"] for row in held(connection, site.feed)] == [held_batch["batch"]]


def test_only_a_held_batch_can_be_decided_about_and_only_once(site, held_batch):
    decided(site, release, held_batch["batch"])
    for decide in (release, reject):
        with pytest.raises(ConfigError, match="is staged, not held"):
            decided(site, decide, held_batch["batch"])
    with pytest.raises(ConfigError, match="is not known"):
        decided(site, reject, 99)
    with connect(site.url) as connection:
        [act] = audit.acts(connection)
    assert (act.action, act.subject, act.counts) == ("gate-release", f"batch:{held_batch['batch']}", {"records": 2})


def test_without_a_reason_the_batch_stays_held(site, held_batch):
    with pytest.raises(ConfigError, match="--reason"):
        decided(site, reject, held_batch["batch"], " ")
    assert site.rows("select state from ledger.batch") == [("held",)]


LIMITED = "quarantine: {hold_above_percent: 20}\n"
BAD = "MSH|^~\\&|garbage\r"


@pytest.mark.parametrize(
    ("bad_first", "limit"),
    [pytest.param(True, 2, marks=pytest.mark.slow), pytest.param(False, 3, marks=pytest.mark.slow), (False, 100)],
)
def test_too_many_bad_records_hold_the_whole_delivery_wherever_in_it_they_stand(site, adt, sound, bad_first, limit):
    site.configure(LIMITED + (site.feeds / f"{site.feed}.yaml").read_text())
    good, bad = [adt(mrn=str(number)) for number in range(7)], [BAD] * 3
    site.write("a_bad.hl7", *((bad + good) if bad_first else (good + bad)))
    site.write("fine.hl7", *(adt(mrn=str(number)) for number in range(10, 14)), BAD)
    counts = site.run(limit=limit)
    assert (counts["published"], counts["quarantined"], counts["in_flight"]) == (4, 4, 7)
    assert len(site.resources("Patient")) == 4
    assert site.resources("Location"), "what both deliveries name is there"
    with connect(site.url) as connection:
        waiting = held(connection)
    assert {tuple(one["deliveries"]) for one in waiting if one["records"]} == {("a_bad.hl7",)}
    for one in waiting:
        decided(site, release, one["batch"])
    assert site.run()["in_flight"] == 0


def test_a_delivery_that_is_not_read_to_its_end_waits_for_the_verdict_on_all_of_it(site, adt, sound):
    site.configure(LIMITED + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("day.hl7", *(adt(mrn=str(number)) for number in range(4)))
    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
        site.land(token)
        batch = site.stage(token, 2).batch_id
        assert not site.gate(batch, token)
        assert site.rows("select state from ledger.batch") == [("staged",)]
    assert site.run()["published"] == 4
