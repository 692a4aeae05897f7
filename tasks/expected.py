"""What should have come and did not: a feed's `expect:` held against its deliveries; pure, the clock is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from tasks.feed import Expect, Feed, calendar

BEFORE = timedelta(hours=12)
"""How long before its time what comes is that day's; what comes earlier is late for the day before."""
DAYS = 7
"""How many days are looked back."""

Kind = Literal["late", "missing", "too-small", "too-large"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A delivery that came: when it was landed, and its records; None while not all of it was read.

    - `corrects` is the delivery in whose place it stands.
    """

    id: int
    landed_at: datetime
    records: int | None
    corrects: int | None = None


@dataclass(frozen=True, slots=True)
class Missed:
    """One thing that is not as expected of one day.

    - `late`: nothing had come when it was due; `came` says when it came, None where it has not come yet.
    - `missing`: nothing came until the next day's began. `too-small`, `too-large`: `records` are outside `expected`.
    """

    feed: str
    day: date
    kind: Kind
    due: datetime
    came: datetime | None = None
    records: int | None = None
    expected: tuple[int, int] | None = None


def missed(feed: Feed, arrivals: Iterable[Arrival], now: datetime, since: datetime | None = None) -> list[Missed]:
    """Return what is not as the feed expects it, of the days that were due by `now` in the last week, oldest first.

    Days that were due before `since` are left out; nothing is expected of a feed without `expect:`. A delivery counts
    for the day whose time it came less than twelve hours before, or for the last such day: wall-clock times in the
    feed's zone, so that a day of 23 or 25 hours is a day.
    """
    if feed.expect is None or feed.timezone is None:
        return []
    came = sorted(arrivals, key=lambda one: (one.landed_at, one.id))
    zone = ZoneInfo(feed.timezone)
    today = now.astimezone(zone).date()
    days = list(_days(feed.expect, today - timedelta(days=DAYS), today + timedelta(days=DAYS)))
    dues = [due_at(day, feed.expect.by, zone) for day in days]
    found: list[Missed] = []
    for number, (day, due) in enumerate(zip(days, dues, strict=True)):
        if due > now or (since is not None and due < since):
            continue
        end = dues[number + 1] - BEFORE if number + 1 < len(dues) else datetime.max.replace(tzinfo=UTC)
        mine = [one for one in came if due - BEFORE <= one.landed_at < min(end, now + timedelta(microseconds=1))]
        found += _day(feed, feed.expect, day, due, mine, over=now >= end)
    return found


def due_at(day: date, by: str, zone: ZoneInfo) -> datetime:
    """Return when a day's delivery is due, in UTC.

    A time that the clock shows twice is the second one, a time that it skips the one after the gap: never too early.
    """
    wall = datetime.combine(day, time.fromisoformat(by), zone)
    return max(wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


def _days(expect: Expect, first: date, last: date) -> Iterator[date]:
    """The days of which something is expected."""
    free = calendar(expect.holidays) if expect.holidays else ()
    day = first
    while day <= last:
        if not (expect.on == "weekdays" and day.weekday() >= 5) and day not in free:
            yield day
        day += timedelta(days=1)


def _day(
    feed: Feed, expect: Expect, day: date, due: datetime, mine: Sequence[Arrival], *, over: bool
) -> Iterator[Missed]:
    if not mine:
        yield Missed(feed.name, day, "missing" if over else "late", due)
        return
    if mine[0].landed_at > due:
        yield Missed(feed.name, day, "late", due, came=mine[0].landed_at)
    if expect.records is None or any(one.records is None for one in mine):
        return
    replaced = {one.corrects for one in mine}
    records = sum(one.records or 0 for one in mine if one.id not in replaced)
    low, high = expect.records
    if not low <= records <= high:
        kind: Kind = "too-small" if records < low else "too-large"
        yield Missed(feed.name, day, kind, due, came=mine[0].landed_at, records=records, expected=expect.records)
