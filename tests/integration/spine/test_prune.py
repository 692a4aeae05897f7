"""Pruning: what nobody can ask for any more goes; what is in flight, in quarantine or referred to stays."""

from __future__ import annotations

import pytest

from deployments.doctor import CHECKS
from tasks.ledger.db import connect
from tasks.ledger.prune import ensure_partitions, prune

FEED = """
source: {kind: directory, connection: drop, ready: {stable_polls: 1}}
format: hl7v2
timezone: America/New_York
quarantine: {hold_above_percent: 100}
route: [{when: "MSH-9.2 = A08", drop: "not for us"}, {to: [warehouse]}]
"""


@pytest.fixture
def aged(site, adt, sound):
    """Three old deliveries: one that has ended, one with a record in quarantine, one that is in flight."""
    site.configure(FEED)
    site.write("ended.hl7", adt(mrn="1"), adt("A08", mrn="2"), adt(mrn="3"))
    site.write("stopped.hl7", adt(mrn="4"), adt("A08", mrn="5"), "MSH|^~\\&|garbage\r")
    site.run()
    site.write("flying.hl7", adt(mrn="6"), adt("A08", mrn="7"))
    from tasks.ledger import claims

    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
        site.land(token)
        site.stage(token)
    site.rows("update ledger.delivery set landed_at = landed_at - interval '400 days', finished_at = now() returning 1")
    return site


def pruned(site, days: int = 300, *, dry_run: bool = False) -> dict[str, int]:
    with connect(site.url) as connection:
        return prune(connection, days, dry_run=dry_run)


def records(site) -> dict[str, int]:
    return dict(
        site.rows(
            "select d.name, count(*)::int from ledger.record r join ledger.delivery d on d.id = r.id >> 32 group by 1"
        )
    )


def test_only_what_has_ended_and_nothing_refers_to_is_pruned(aged) -> None:
    before = aged.counts()
    assert pruned(aged, 500)["deliveries"] == 0
    counts = pruned(aged)
    assert (counts["deliveries"], counts["records"]) == (1, 1)
    assert records(aged) == {"ended.hl7": 2, "stopped.hl7": 3, "flying.hl7": 2}
    assert aged.counts() == before, "what is told of a delivery stays"
    assert pruned(aged)["deliveries"] == 0
    for name, query in CHECKS.items():
        assert aged.rows(query) == [], name


def test_a_dry_run_counts_the_same_and_keeps_everything(aged) -> None:
    before = records(aged)
    assert pruned(aged, dry_run=True)["records"] == 1
    assert records(aged) == before
    assert pruned(aged)["records"] == 1


def test_what_was_pruned_is_still_known_when_it_comes_again(aged, adt) -> None:
    pruned(aged)
    aged.write("again.hl7", adt(mrn="1"), adt(mrn="3"))
    counts = aged.run()
    assert counts["duplicate"] == 2


def test_the_partitions_of_the_coming_months_are_there_and_records_go_into_them(site, adt, sound) -> None:
    site.write("day.hl7", adt(mrn="1"))
    site.run()
    assert site.rows("select count(*) from ledger.record_default") == [(0,)]
    with connect(site.url) as connection:
        assert ensure_partitions(connection, 3) == 0
        assert ensure_partitions(connection, 5) == 4


def test_a_delivery_without_a_record_beside_others_is_sound(site, adt, sound) -> None:
    site.write("a.hl7", adt(mrn="1"))
    site.write("b.hl7", "")
    site.write("c.hl7", adt(mrn="2"))
    counts = site.run()
    assert counts["published"] == 2
