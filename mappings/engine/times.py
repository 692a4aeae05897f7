"""HL7's times to FHIR's: the precision is kept, a time part always carries an offset.

HL7 v2 chapter 2A: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]. Without an offset the feed's zone counts: in the hour
that a clock repeats the first one, in the hour that it leaves out the offset that was valid before; both are doubts.
The end of a day (2400) is the beginning of the next one: FHIR has no hour 24.
"""

from __future__ import annotations

import re
from datetime import date as _day
from datetime import datetime, timedelta
from functools import cache, lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_DTM = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d+))?)?)?)?)?)?(?:([+-])(\d\d):?(\d\d))?"
)
_TO_THE_SECOND = re.compile(r"[0-9]{10}(?:[0-5][0-9]){2}(?:[+-](?:0[0-9]|1[0-4])[0-5][0-9])?")
_TM = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d+))?)?)?([+-]\d{4})?")


@cache
def zone(name: str) -> ZoneInfo:
    """Return the zone called `name`; raises `ZoneInfoNotFoundError` where there is none."""
    return ZoneInfo(name)


class Read(NamedTuple):
    """A text as a time: None where it is none, and the code of what is doubtful about it, empty where nothing is.

    Doubts: `no-time-zone` (the time part is left out), `local-time-skipped` and `local-time-repeated` (the clock of the
    zone left this hour out, or showed it twice).
    """

    value: str | None
    doubt: str = ""


def date_time(text: str, timezone: str | None) -> str | None:
    """Return `text` as a FHIR dateTime with the precision it has; None where it is not a time."""
    return read(text, timezone).value


def read(text: str, timezone: str | None) -> Read:
    """Return `text` as a FHIR dateTime with the precision it has, and what is doubtful about it."""
    if _TO_THE_SECOND.fullmatch(text):
        # Most times of most messages, in an hour that came before.
        offset = _hour_offset(text[:10], text[14:] or timezone)
        if offset:
            return Read(f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}{offset}")
    return _read(text, timezone)


@lru_cache(maxsize=65536)
def _read(text: str, timezone: str | None) -> Read:
    found = _DTM.fullmatch(text)
    if found is None:
        return Read(None)
    year, month, day, hour, minute, second, fraction, sign, zh, zm = found.groups()
    midnight = hour == "24" and not (minute or "00").strip("0") and not f"{second or ''}{fraction or ''}".strip("0")
    try:
        moment = datetime(  # noqa: DTZ001 - the offset is found out below
            int(year), int(month or 1), int(day or 1), 0 if midnight else int(hour or 0), int(minute or 0),
            59 if second == "60" else int(second or 0),
        )  # fmt: skip
        moment += timedelta(days=midnight)
    except (ValueError, OverflowError):
        return Read(None)
    if hour is None:
        return Read("-".join(part for part in (year, month, day) if part))
    offset, doubt = _offset(moment, sign, zh, zm, timezone)
    if offset is None:
        return Read(moment.date().isoformat(), doubt)
    seconds = f"{second or '00'}{f'.{fraction}' if fraction else ''}"
    return Read(f"{moment.isoformat()[:16]}:{seconds}{offset}", doubt)


def _offset(moment: datetime, sign: str | None, zh: str, zm: str, timezone: str | None) -> tuple[str | None, str]:
    if sign is not None and int(zh) <= 14 and int(zm) < 60:
        return f"{sign}{zh}:{zm}", ""
    if sign is not None or timezone is None:
        return None, "no-time-zone"
    if timezone[0] in "+-":
        return f"{timezone[:3]}:{timezone[3:]}", ""
    delta, other = (moment.replace(tzinfo=zone(timezone), fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    doubt = "" if delta == other else "local-time-skipped" if delta < other else "local-time-repeated"
    minutes = int(delta.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}", doubt


@lru_cache(maxsize=65536)
def _hour_offset(hour: str, timezone: str | None) -> str:
    """Return the offset of a whole hour (YYYYMMDDHH); empty where it is none, or a clock is changed in it."""
    first, last = (_read(f"{hour}{rest}", timezone) for rest in ("0000", "5959"))
    if not first.value or not last.value or first.doubt or last.doubt or first.value[19:] != last.value[19:]:
        return ""
    return first.value[19:] if first.value[11:13] == hour[8:] else ""


def later(start: str, minutes: float) -> str | None:
    """Return the dateTime (or, for a whole number of days, the date) `minutes` after `start`; None beyond the calendar.

    A leap second, which Python's clocks do not have, counts as the second before.
    """
    try:
        length = timedelta(minutes=minutes)
        if "T" in start:
            return (datetime.fromisoformat(start.replace(":60", ":59", 1)) + length).isoformat()
        return (_day.fromisoformat(start) + length).isoformat() if not length % timedelta(days=1) else None
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=65536)
def date(text: str) -> str | None:
    """Return `text` as a FHIR date, its time part left out; None where it is not a date."""
    whole = date_time(text, None)
    return whole[:10] if whole else None


def instant(text: str, timezone: str | None) -> str | None:
    """Return `text` as a FHIR instant; midnight, first of the month where the sender was less precise."""
    return read_instant(text, timezone).value


def read_instant(text: str, timezone: str | None) -> Read:
    """Return `text` as a FHIR instant, and what is doubtful about it; a time without an offset is none."""
    whole = read(text if _TO_THE_SECOND.fullmatch(text) else _filled(text), timezone)
    return whole if whole.value and "T" in whole.value else Read(None, whole.doubt)


def _filled(text: str) -> str:
    """Return a time with what the sender left out of it; what is not one stays so."""
    found = _DTM.fullmatch(text)
    if found is None:
        return text
    year, month, day, hour, minute, second, fraction, sign, zh, zm = found.groups()
    rest = f"{hour or '00'}{minute or '00'}{second or '00'}{f'.{fraction}' if fraction else ''}"
    return f"{year}{month or '01'}{day or '01'}{rest}{f'{sign}{zh}{zm}' if sign else ''}"


@lru_cache(maxsize=4096)
def clock(text: str) -> Read:
    """Return `text` (HH[MM[SS]]) as a FHIR time, which has no offset: a sent one is the doubt `offset-dropped`."""
    found = _TM.fullmatch(text)
    if found is None:
        return Read(None)
    hour, minute, second, fraction, offset = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return Read(None)
    whole = f"{hour}:{minute or '00'}:{second or '00'}{f'.{fraction}' if fraction else ''}"
    return Read(whole, "offset-dropped" if offset else "")
