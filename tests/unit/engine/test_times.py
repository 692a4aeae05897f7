"""HL7's times to FHIR's."""

from __future__ import annotations

import pytest

from mappings.engine import times

NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("2024", "2024"),
        ("202403", "2024-03"),
        ("20240310", "2024-03-10"),
        ("2024031014", "2024-03-10T14:00:00-04:00"),
        ("202403101415", "2024-03-10T14:15:00-04:00"),
        ("20240310141516.1234", "2024-03-10T14:15:16.1234-04:00"),
        ("20240110141516", "2024-01-10T14:15:16-05:00"),
        ("20240310141516+0530", "2024-03-10T14:15:16+05:30"),
        ("202403101415-0000", "2024-03-10T14:15:00-00:00"),
    ],
)
def test_a_time_keeps_its_precision_and_has_an_offset(sent: str, expected: str) -> None:
    assert times.date_time(sent, NEW_YORK) == expected


def test_the_hour_that_the_clock_leaves_out_has_the_offset_before_and_the_repeated_hour_its_first() -> None:
    assert times.date_time("20240310023000", NEW_YORK) == "2024-03-10T02:30:00-05:00"
    assert times.date_time("20241103013000", NEW_YORK) == "2024-11-03T01:30:00-04:00"


def test_without_any_zone_a_time_is_not_guessed() -> None:
    assert times.date_time("202403101415", None) == "2024-03-10"


def test_the_message_s_own_offset_is_a_zone() -> None:
    assert times.date_time("202403101415", "-0330") == "2024-03-10T14:15:00-03:30"


@pytest.mark.parametrize(
    "sent", ["", "x", "20241", "20240230", "20241301", "2024031025", "202403101475", "2024031014+99"]
)
def test_what_is_not_a_time_is_none(sent: str) -> None:
    assert times.date_time(sent, NEW_YORK) is None


def test_an_instant_has_seconds_and_an_offset() -> None:
    assert times.instant("202403", NEW_YORK) == "2024-03-01T00:00:00-05:00"
    assert times.instant("202403101415", None) is None


def test_a_time_of_day_is_checked() -> None:
    assert times.clock("0715") == ("07:15:00", "")
    assert times.clock("0715-0500") == ("07:15:00", "offset-dropped")
    assert times.clock("2560") == (None, "")


@pytest.mark.parametrize(
    ("sent", "zone", "doubt"),
    [
        ("20240310023000", NEW_YORK, "local-time-skipped"),
        ("20240310023000-0500", NEW_YORK, ""),
        ("20241103013000", NEW_YORK, "local-time-repeated"),
        ("20241103023000", NEW_YORK, ""),
        ("20240331023000", "Europe/Berlin", "local-time-skipped"),
        ("202403101415", None, "no-time-zone"),
        ("20240310", None, ""),
    ],
)
def test_an_hour_that_the_clock_left_out_or_showed_twice_is_a_doubt(sent: str, zone: str | None, doubt: str) -> None:
    assert times.read(sent, zone).doubt == doubt
    if len(sent) > 8:
        assert times.read_instant(sent, zone).doubt == doubt


def test_the_end_of_a_day_is_the_beginning_of_the_next() -> None:
    assert times.date_time("202402282400", "UTC") == "2024-02-29T00:00:00+00:00"
    assert times.date_time("2024122424", NEW_YORK) == "2024-12-25T00:00:00-05:00"
    assert times.date_time("202402282401", "UTC") is None


def test_a_leap_second_stays_and_is_counted_as_the_second_before() -> None:
    assert times.date_time("20161231235960+0000", None) == "2016-12-31T23:59:60+00:00"
    assert times.date_time("20161231235961+0000", None) is None
    assert times.later("2016-12-31T23:59:60+00:00", 1) == "2017-01-01T00:00:59+00:00"


def test_what_is_later_than_the_calendar_is_none() -> None:
    assert times.later("9999-12-31T23:59:00+00:00", 5) is None
    assert times.later("2024-02-28", 1440) == "2024-02-29"
    assert times.later("2024-02-28", 30) is None
