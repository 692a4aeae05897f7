"""What a sample partner hands over on a day, and what a correct pipeline makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

MARKER_NAME = "Zzyzxmarker"
"""A family name planted at every partner, in broken records too: it may appear in landing and store, nowhere else."""

MARKER_NUMBER = "990777314159"
"""A personal number planted beside `MARKER_NAME` (PID-19, CSV member number, a county identifier)."""

ZONE = ZoneInfo("America/New_York")


@dataclass(frozen=True, slots=True)
class DroppedFile:
    """A file as it lies in the drop zone from a moment of the day on.

    - `moment` counts from 0; a partner's poll comes between two moments, so what is dropped later is seen later.
    - `kind` says what it is to the receiver: news, the same bytes again, or the same name with other bytes.
    - `growing` are the lengths in bytes that are there at the moments before `moment`, while it is still uploaded.
    """

    name: str
    data: bytes
    moment: int = 0
    kind: Literal["new", "duplicate", "correction"] = "new"
    growing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """How a delivery's records end."""

    received: int
    published: int = 0
    quarantined: int = 0
    duplicate: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """What must become of one file; for a bulk export, of one resource type (`name` is the type)."""

    feed: str
    name: str
    moment: int
    kind: Literal["new", "duplicate", "correction"]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that must be quarantined.

    - `location` is `message N`, `line N` or, for a bulk export, `Type/id`; `ordinal` is None where the server orders.
    - `finding` is where in the record the fault is.
    """

    feed: str
    delivery: str
    ordinal: int | None
    location: str
    finding: str


@dataclass(frozen=True, slots=True)
class EarlyUpdate:
    """An A08 that is dropped before the A01 of the same visit; `family` is what it says, and what must stay."""

    mrn: str
    visit: str
    family: str
    family_before: str


@dataclass(frozen=True, slots=True)
class Expected:
    """What the day must end with.

    - `store` counts current resources by partner and type, of the types that do not hang on a mapping's detail.
    - `twin_mrn` is the record number that northside and eastlab both gave, to two people.
    - `retracted` is the eastlab result (accession, LOINC code) that the corrected file no longer says.
    - `reported` counts the orders that end with a final result, by the code of what was ordered.
    - `latest` is the newest result of each partner's patients, by partner, record number and LOINC code: a number as
      sent behind its comparator, or a code; several where they were taken in the same minute.
    """

    deliveries: tuple[Delivery, ...]
    store: Mapping[str, Mapping[str, int]]
    broken: tuple[Broken, ...]
    early_update: EarlyUpdate
    twin_mrn: str
    retracted: tuple[str, str]
    reported: Mapping[str, int]
    latest: Mapping[tuple[str, str, str], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Day:
    """One simulated day of the three partners; equal for an equal seed and day, byte for byte."""

    day: date
    northside: list[DroppedFile]
    eastlab: list[DroppedFile]
    county: list[dict[str, Any]]
    expected: Expected


Taken = tuple[str, str, datetime, str]
"""A result that stands at the end: record number, LOINC code, when it was taken, its value."""


def latest(partner: str, results: Iterable[Taken]) -> dict[tuple[str, str, str], frozenset[str]]:
    """Return the newest values by partner, record number and LOINC code."""
    found: dict[tuple[str, str, str], dict[datetime, set[str]]] = {}
    for number, loinc, when, value in results:
        found.setdefault((partner, number, loinc), {}).setdefault(when, set()).add(value)
    return {key: frozenset(times[max(times)]) for key, times in found.items()}


def moments(files: Iterable[DroppedFile]) -> list[list[DroppedFile]]:
    """Return what is dropped at each moment of the day, unfinished uploads as the bytes that are there by then.

    A poll belongs after each of them; a feed that waits for stable polls needs one more at the end.
    """
    files = list(files)
    schedule: list[list[DroppedFile]] = [[] for _ in range(1 + max(file.moment for file in files))]
    for file in files:
        schedule[file.moment].append(file)
        first = file.moment - len(file.growing)
        for number, length in enumerate(file.growing):
            schedule[first + number].append(DroppedFile(file.name, file.data[:length], first + number))
    return schedule


def dice(*seed: object) -> random.Random:
    """Return a generator that depends on the words of `seed` alone."""
    return random.Random(":".join(map(str, seed)))  # noqa: S311 - synthetic data, no secret
