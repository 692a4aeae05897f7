"""Dates and times as FHIR writes them: how far they reach, how they compare, where they begin and end.

Source: FHIR R4, "Primitive types"; FHIRPath N1, 6.1 and 6.2 (values of different precision may be undecided).
A time without an offset is taken as UTC, on both sides alike.
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import datetime, timedelta
from decimal import Decimal

SHAPE = (
    r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01])"
    r"(T([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d+)?)?(Z|[+-](0\d|1[0-4]):[0-5]\d)?)?)?)?$"
)
TIME_SHAPE = r"^([01]\d|2[0-3])(:[0-5]\d(:([0-5]\d|60)(\.\d+)?)?)?$"
LOWEST = "0000-01-01T00:00:00.000"
HIGHEST = "0000-12-31T23:59:59.999"
_SHAPE = re.compile(SHAPE, re.ASCII)
_TIME_SHAPE = re.compile(TIME_SHAPE, re.ASCII)
_OFFSET = re.compile(r"(Z|[+-]\d\d:\d\d)$")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - offsets are taken off by hand, because FHIR's precision is not datetime's

Span = tuple[Decimal, Decimal]


def is_temporal(text: object) -> bool:
    """Say whether a value is a date, dateTime or instant that exists in the calendar."""
    if not isinstance(text, str) or not _SHAPE.match(text) or text.startswith("0000"):
        return False
    return len(text) < 10 or int(text[8:10]) <= monthrange(int(text[:4]), int(text[5:7]))[1]


def span(text: object) -> Span | None:
    """Return a value's first second since 1970 and how many seconds it reaches; None where it is no date or time."""
    if isinstance(text, str) and _TIME_SHAPE.match(text):
        return span(f"1970-01-01T{text}" if len(text) > 2 else f"1970-01-01T{text}:00")
    if not isinstance(text, str) or not is_temporal(text):
        return None
    body, offset = split_offset(text)
    whole, _, fraction = body.partition(".")
    year, month, day, hour, minute, second = _fields(whole)
    start = datetime(year, month, day, hour, minute) - _EPOCH  # noqa: DTZ001
    seconds = start.days * 86400 + start.seconds + second - _seconds(offset)
    return Decimal(seconds) + Decimal(f"0.{fraction or 0}"), Decimal(_reach(whole, year, month))


def _fields(whole: str) -> list[int]:
    numbers = [int(part) for part in re.split(r"[-T:]", whole)]
    return numbers + [1, 1, 1, 0, 0, 0][len(numbers) :]


def _seconds(offset: str) -> int:
    if len(offset) < 6:
        return 0
    seconds = int(offset[1:3]) * 3600 + int(offset[4:6]) * 60
    return -seconds if offset[0] == "-" else seconds


def _reach(whole: str, year: int, month: int) -> int:
    days = {4: 366 if monthrange(year, 2)[1] == 29 else 365, 7: monthrange(year, month)[1], 10: 1}
    if len(whole) in days:
        return int(timedelta(days=days[len(whole)]).total_seconds())
    return 60 if len(whole) == 16 else 0


def compare(left: object, right: object) -> int | None:
    """Return -1, 0 or 1 as `left` is before, at or after `right`; None where that cannot be decided."""
    one, other = span(left), span(right)
    if one is None or other is None:
        return None
    if one == other or (one[1] == other[1] and one[0] == other[0]):
        return 0
    if _before(one, other):
        return -1
    return 1 if _before(other, one) else None


def _before(one: Span, other: Span) -> bool:
    end = one[0] + one[1]
    return end <= other[0] if one[1] else end < other[0]


def split_offset(text: str) -> tuple[str, str]:
    """Return a dateTime without its offset, and the offset, which may be empty."""
    if "T" not in text:
        return text, ""
    body = _OFFSET.sub("", text)
    return body, text[len(body) :]


def low_boundary(text: str, type_name: str | None) -> str | None:
    """Return the earliest moment that `text` may mean, in the form of its type."""
    return _boundary(text, type_name, LOWEST, "+14:00")


def high_boundary(text: str, type_name: str | None) -> str | None:
    """Return the latest moment that `text` may mean, in the form of its type."""
    return _boundary(text, type_name, HIGHEST, "-12:00")


def _boundary(text: str, type_name: str | None, template: str, zone: str) -> str | None:
    if _TIME_SHAPE.match(text) and type_name not in {"date", "dateTime", "instant"}:
        return _pad(text, template[11:])
    if not is_temporal(text):
        return None
    body, offset = split_offset(text)
    if len(body) == 7 and template is HIGHEST:
        body = f"{body}-{monthrange(int(body[:4]), int(body[5:7]))[1]:02}"
    if type_name == "date":
        return _pad(body, template)[:10]
    return _pad(body, template) + (offset or zone)


def _pad(body: str, template: str) -> str:
    return body + template[len(body) :]
