"""FHIR dates and instants as spans of time (R4 Search 2.1.1.4.6): what is said less exactly lasts longer."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from infra.dev.fhir.outcome import Refusal

_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?", re.ASCII
)


class Span(NamedTuple):
    """From `low` until before `high`, both in UTC."""

    low: datetime
    high: datetime


def span(text: str) -> Span:
    """Return the time that a FHIR date, dateTime or instant covers; without an offset it is UTC.

    Raises `Refusal` 400 where `text` is none.
    """
    match = _DATE.fullmatch(text.replace(" ", "+"))
    if not match:
        raise _no_date()
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    try:
        micro = int((fraction or "0").ljust(6, "0")[:6])
        low = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        low = low.replace(hour=int(hour or 0), minute=int(minute or 0), second=int(second or 0), microsecond=micro)
        low -= _offset(zone)
        return Span(low, _end(low, match))
    except (ValueError, OverflowError):
        raise _no_date() from None


def moment(text: str) -> datetime:
    """Return the instant that `text` says; raise `Refusal` 400 where it says none."""
    return span(text).low


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone == "Z":
        return timedelta()
    sign = -1 if zone[0] == "-" else 1
    return sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6]))


def _end(low: datetime, match: re.Match[str]) -> datetime:
    _, month, day, hour, _, second, fraction, _ = match.groups()
    if fraction:
        return low + timedelta(microseconds=max(1, 10 ** (6 - len(fraction))) if len(fraction) < 6 else 1)
    if second:
        return low + timedelta(seconds=1)
    if hour:
        return low + timedelta(minutes=1)
    if day:
        return low + timedelta(days=1)
    first_of_next = (low.replace(day=1) + timedelta(days=32)).replace(day=1)
    return first_of_next if month else low.replace(year=low.year + 1)


def _no_date() -> Refusal:
    return Refusal(400, "a date or instant cannot be read: write YYYY-MM-DDThh:mm:ss.sss+zz:zz", code="value")
