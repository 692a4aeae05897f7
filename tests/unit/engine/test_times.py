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
    assert times.clock("0715") == "07:15:00"
    assert times.clock("2560") is None
