"""What should have come: around midnight, changes of the clock, weekends and holidays."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.expected import BEFORE, Arrival, due_at, missed
from tasks.feed import Expect, Feed, calendar

ZONE = ZoneInfo("America/New_York")


def feed(zone: str | None = "America/New_York", **expect: Any) -> Feed:
    said = Expect(**expect) if expect else None
    return Feed(name="f.x", partner="f", source=None, format="fhir-ndjson", timezone=zone, expect=said)


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE, fold=fold)


def came(text: str, records: int | None = 10, number: int = 1, corrects: int | None = None) -> Arrival:
    return Arrival(number, local(text), records, corrects)


def kinds(feed: Feed, arrivals: list[Arrival], now: str, since: str = "2026-03-11T00:00") -> list[tuple[str, str]]:
    return [(one.day.isoformat(), one.kind) for one in missed(feed, arrivals, local(now), local(since))]


# 2026-03-11 is a Wednesday
def test_before_its_time_nothing_is_late_and_from_then_on_it_is():
    assert kinds(feed(by="06:00"), [], "2026-03-11T05:59") == []
    assert kinds(feed(by="06:00"), [], "2026-03-11T06:00") == [("2026-03-11", "late")]


def test_what_came_on_time_is_not_told_of():
    assert kinds(feed(by="06:00"), [came("2026-03-11T05:00")], "2026-03-11T20:00") == []


def test_what_came_after_its_time_is_late_and_says_when_it_came():
    [one] = missed(feed(by="06:00"), [came("2026-03-11T07:10")], local("2026-03-11T08:00"), local("2026-03-11T00:00"))
    assert (one.kind, one.came) == ("late", local("2026-03-11T07:10"))


def test_what_never_came_is_missing_when_the_next_day_begins():
    assert kinds(feed(by="06:00"), [], "2026-03-11T17:59") == [("2026-03-11", "late")]
    assert kinds(feed(by="06:00"), [], "2026-03-11T18:00") == [("2026-03-11", "missing")]


def test_the_file_of_the_evening_before_is_the_next_mornings():
    arrivals = [came("2026-03-11T22:00")]
    assert kinds(feed(by="00:30"), arrivals, "2026-03-12T09:00", "2026-03-12T00:00") == []
    assert kinds(feed(by="23:59"), [came("2026-03-12T00:05")], "2026-03-12T01:00") == [("2026-03-11", "late")]


def test_yesterdays_late_file_is_not_todays():
    arrivals = [came("2026-03-11T07:00")]
    assert kinds(feed(by="06:00"), arrivals, "2026-03-12T06:30") == [("2026-03-11", "late"), ("2026-03-12", "late")]


def test_of_a_weekend_nothing_is_expected_and_what_comes_then_is_fridays():
    weekdays = feed(by="06:00", on="weekdays")
    assert kinds(weekdays, [], "2026-03-15T23:00", "2026-03-14T00:00") == []
    assert kinds(weekdays, [came("2026-03-14T09:00")], "2026-03-15T12:00", "2026-03-13T00:00") == [
        ("2026-03-13", "late")
    ]
    assert kinds(weekdays, [came("2026-03-13T05:00"), came("2026-03-15T20:00", number=2)], "2026-03-16T09:00") == [
        ("2026-03-11", "missing"),
        ("2026-03-12", "missing"),
    ]


def test_of_a_holiday_nothing_is_expected():
    christmas = ("2026-12-25T12:00", "2026-12-25T00:00")
    assert kinds(feed(by="06:00"), [], *christmas) == [("2026-12-25", "late")]
    assert kinds(feed(by="06:00", holidays="US"), [], *christmas) == []
    # Juneteenth of 2027 is a Saturday and observed on Friday; 2 March is a holiday in Texas alone
    assert kinds(feed(by="06:00", holidays="US"), [], "2027-06-18T12:00", "2027-06-18T00:00") == []
    assert kinds(feed(by="06:00", holidays="US-TX"), [], "2027-03-02T12:00", "2027-03-02T00:00") == []
    assert kinds(feed(by="06:00", holidays="US"), [], "2027-03-02T12:00", "2027-03-02T00:00") == [
        ("2027-03-02", "late")
    ]


def test_a_time_that_the_clock_skips_is_due_after_the_gap():
    due = due_at(date(2026, 3, 8), "02:30", ZONE)
    assert due == datetime(2026, 3, 8, 7, 30, tzinfo=UTC)


def test_a_time_that_the_clock_shows_twice_is_due_the_second_time():
    due = due_at(date(2026, 11, 1), "01:30", ZONE)
    assert due == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize("day", ["2026-03-08", "2026-11-01"])
def test_on_days_when_the_clock_changes_six_is_six(day: str):
    since = f"{day}T00:00"
    assert kinds(feed(by="06:00"), [], f"{day}T05:59", since) == []
    assert kinds(feed(by="06:00"), [], f"{day}T06:00", since) == [(day, "late")]


def test_counts_outside_the_band_are_told_when_all_was_read():
    band = feed(by="06:00", records=(100, 200))
    assert kinds(band, [came("2026-03-11T05:00", 99)], "2026-03-11T06:00") == [("2026-03-11", "too-small")]
    assert kinds(band, [came("2026-03-11T05:00", 201)], "2026-03-11T06:00") == [("2026-03-11", "too-large")]
    assert kinds(band, [came("2026-03-11T05:00", 100)], "2026-03-11T06:00") == []
    assert kinds(band, [came("2026-03-11T05:00", None)], "2026-03-11T06:00") == []
    parts = [came("2026-03-11T04:00", 60), came("2026-03-11T05:00", 60, 2)]
    assert kinds(band, parts, "2026-03-11T06:00") == []


def test_a_correction_counts_in_place_of_what_it_corrects():
    band = feed(by="06:00", records=(100, 150))
    arrivals = [came("2026-03-11T04:00", 20), came("2026-03-11T05:00", 120, 2, corrects=1)]
    assert kinds(band, arrivals, "2026-03-11T06:00") == []


def test_a_late_delivery_can_be_too_small_as_well():
    band = feed(by="06:00", records=(100, 150))
    assert kinds(band, [came("2026-03-11T07:00", 3)], "2026-03-11T08:00") == [
        ("2026-03-11", "late"),
        ("2026-03-11", "too-small"),
    ]


def test_a_feed_without_expect_expects_nothing():
    assert missed(feed(), [], local("2026-03-11T08:00")) == []


moments = st.timedeltas(timedelta(0), timedelta(days=270)).map(lambda ago: datetime(2026, 11, 20, tzinfo=UTC) - ago)
times = st.times().map(lambda one: one.strftime("%H:%M"))
expectations = st.builds(
    Expect,
    by=times,
    on=st.sampled_from(["daily", "weekdays"]),
    holidays=st.sampled_from([None, "US", "US-NY", "DE-BY"]),
    records=st.sampled_from([None, (0, 5), (5, 1000)]),
)
# the package takes a second to be imported, which is not a generator's time
calendar("US")
zones = st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"])


def made(zone: str, expect: Expect) -> Feed:
    return feed(zone).model_copy(update={"expect": expect})


@given(zones, expectations, moments)
def test_one_delivery_half_an_hour_before_each_days_time_is_all_that_is_expected(zone, expect, now):
    place = ZoneInfo(zone)
    today = now.astimezone(place).date()
    on_time = [
        Arrival(number, due_at(today + timedelta(days=number - 9), expect.by, place) - timedelta(minutes=30), 5)
        for number in range(18)
    ]
    arrivals = [one for one in on_time if one.landed_at <= now]
    assert {one.kind for one in missed(made(zone, expect), arrivals, now)} <= {"too-large"}


@given(zones, expectations, moments, st.lists(st.timedeltas(timedelta(0), timedelta(days=9)), max_size=12))
def test_each_day_is_told_of_once_a_kind_and_only_after_its_time(zone, expect, now, ago):
    arrivals = [Arrival(number, now - back, 5) for number, back in enumerate(ago)]
    found = missed(made(zone, expect), arrivals, now)
    assert len({(one.day, one.kind) for one in found}) == len(found)
    assert all(
        one.due <= now and one.due.astimezone(ZoneInfo(zone)).date() - one.day <= timedelta(days=1) for one in found
    )
    assert all(one.came is None or one.due - BEFORE <= one.came <= now for one in found)
    late = [one.came for one in found if one.kind == "late" and one.came]
    assert len(set(late)) == len(late) or len({one.landed_at for one in arrivals}) < len(arrivals)


@given(zones, expectations, moments, st.timedeltas(timedelta(0), timedelta(hours=30)))
def test_what_is_missing_stays_missing_as_time_goes_on(zone, expect, now, later):
    gone = {(one.day, one.kind) for one in missed(made(zone, expect), [], now) if one.kind == "missing"}
    after = {(one.day, one.kind) for one in missed(made(zone, expect), [], now + later) if one.kind == "missing"}
    oldest = min((day for day, _ in after), default=date.max)
    assert {one for one in gone if one[0] >= oldest} <= after
