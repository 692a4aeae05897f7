"""HL7's times to FHIR's: the precision is kept, a time part always carries an offset.

HL7 v2 chapter 2A: YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]. Without an offset the feed's zone counts: in the hour
that a clock repeats the first one, in the hour that it leaves out the offset that was valid before.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cache, lru_cache
from zoneinfo import ZoneInfo

_DTM = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d+))?)?)?)?)?)?(?:([+-])(\d\d):?(\d\d))?"
)
_TM = re.compile(r"(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d+))?)?)?(?:[+-]\d{4})?")


@cache
def zone(name: str) -> ZoneInfo:
    """Return the zone called `name`; raises `ZoneInfoNotFoundError` where there is none."""
    return ZoneInfo(name)


@lru_cache(maxsize=65536)
def date_time(text: str, timezone: str | None) -> str | None:
    """Return `text` as a FHIR dateTime with the precision it has; None where it is not a time."""
    found = _DTM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zh, zm = found.groups()
    try:
        moment = datetime(  # noqa: DTZ001 - the offset is found out below
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), min(int(second or 0), 59)
        )
    except ValueError:
        return None
    if hour is None:
        return "-".join(part for part in (year, month, day) if part)
    offset = _offset(moment, sign, zh, zm, timezone)
    if offset is None:
        return f"{year}-{month}-{day}"
    seconds = f"{second or '00'}{f'.{fraction}' if fraction else ''}"
    return f"{year}-{month}-{day}T{hour}:{minute or '00'}:{seconds}{offset}"


def _offset(moment: datetime, sign: str | None, zh: str, zm: str, timezone: str | None) -> str | None:
    if sign is not None:
        return f"{sign}{zh}:{zm}" if int(zh) <= 14 and int(zm) < 60 else None
    if timezone is None:
        return None
    if timezone[0] in "+-":
        return f"{timezone[:3]}:{timezone[3:]}"
    delta = moment.replace(tzinfo=zone(timezone)).utcoffset() or timedelta()
    minutes = int(delta.total_seconds()) // 60
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


@lru_cache(maxsize=65536)
def date(text: str) -> str | None:
    """Return `text` as a FHIR date, its time part left out; None where it is not a date."""
    whole = date_time(text, None)
    return whole[:10] if whole else None


@lru_cache(maxsize=65536)
def instant(text: str, timezone: str | None) -> str | None:
    """Return `text` as a FHIR instant; midnight, first of the month where the sender was less precise."""
    found = _DTM.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, zh, zm = found.groups()
    tail = f"{sign}{zh}{zm}" if sign else ""
    rest = f"{hour or '00'}{minute or '00'}{second or '00'}{f'.{fraction}' if fraction else ''}"
    whole = date_time(f"{year}{month or '01'}{day or '01'}{rest}{tail}", timezone)
    return whole if whole and "T" in whole else None


@lru_cache(maxsize=4096)
def clock(text: str) -> str | None:
    """Return `text` (HH[MM[SS]]) as a FHIR time; None where it is not one."""
    found = _TM.fullmatch(text)
    if found is None:
        return None
    hour, minute, second, fraction = found.groups()
    if int(hour) > 23 or int(minute or 0) > 59 or int(second or 0) > 59:
        return None
    return f"{hour}:{minute or '00'}:{second or '00'}{f'.{fraction}' if fraction else ''}"
