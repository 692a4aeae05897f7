"""What every way in keeps, polled or listening, from the partner's hand to the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ways_rigs import KINDS, MllpWay, Way, deliveries, way

from tests.integration.mllp.mllp_site import Site


@pytest.fixture(params=KINDS)
def taken(
    request: pytest.FixtureRequest, warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Way]:
    (tmp_path / "feeds").mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    site = Site(warehouse_url, tmp_path / "feeds")
    made = way(request.param, site, tmp_path, request)
    yield made
    made.close()
    site.stop()
    assert site.rows("select * from ops.invariant") == []


def test_nothing_is_lost_and_nothing_is_there_twice_however_often_it_is_sent(taken: Way) -> None:
    for _ in range(2):
        taken.send("a", taken.delivery(taken.record(1), taken.record(2)))
        taken.poll()
        taken.send("b", taken.delivery(taken.record(3)))
        assert taken.families() == {"1": "Okafor", "2": "Okafor", "3": "Okafor"}
    assert taken.published() == 3


def test_what_was_kept_when_the_receiver_died_is_one_record_when_it_comes_again(taken: Way) -> None:
    taken.crash("a", taken.delivery(taken.record(1)))
    taken.poll()
    taken.send("a", taken.delivery(taken.record(1)))
    assert taken.families() == {"1": "Okafor"}
    assert taken.published() == 1


def test_a_transfer_that_breaks_leaves_nothing_half_and_is_made_good_by_the_next(taken: Way) -> None:
    data = taken.delivery(taken.record(1))
    taken.send("a", data)
    taken.poll()
    taken.break_off("b", taken.delivery(taken.record(2)))
    assert set(taken.families()) <= {"1", "2"}
    taken.send("b", taken.delivery(taken.record(2)))
    taken.send("c", taken.delivery(taken.record(3)))
    assert {"1", "3"} <= set(taken.families())
    taken.send("b", taken.delivery(taken.record(2)))
    assert set(taken.families()) == {"1", "2", "3"}
    assert taken.published() == 3


def test_letters_of_every_script_an_empty_delivery_and_a_huge_one_arrive_as_they_are(taken: Way) -> None:
    names = {"Müller größe ☃": "Grüßenberg", "日本語 & 'quote' [x]": "山田"}
    for number, (name, family) in enumerate(names.items(), 1):
        taken.send(name, taken.delivery(taken.record(number, family)))
        taken.poll()
    taken.send("huge", taken.delivery(taken.record(9, more="x" * 5_000_000)))
    taken.poll()
    taken.send("empty", taken.delivery())
    assert taken.families() == {"1": "Grüßenberg", "2": "山田", "9": "Okafor"}
    held = deliveries(taken.site.url)
    if not isinstance(taken, MllpWay):
        assert {state for _, state, _ in held} == {"read"}
        assert sorted(size for _, _, size in held)[0] == 0
        assert sorted(size for _, _, size in held)[-1] > 5_000_000
