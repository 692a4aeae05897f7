"""Large deliveries of any size, written to a stream, for measuring size and speed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import BinaryIO

from infra.dev.partners.county import county
from infra.dev.partners.eastlab import eastlab
from infra.dev.partners.journeys import Event, Journey
from infra.dev.partners.model import dice
from infra.dev.partners.people import person
from infra.dev.partners.segments import MAIN, msh
from mappings.engine.json import dumps


def big_hl7(stream: BinaryIO, n: int, day: date = date(2026, 3, 9), seed: int = 1) -> int:
    """Write `n` messages of a hospital's days (ADT and ORU as they come), UTF-8 with CR; return the bytes written."""
    written = number = serial = 0
    while number < n:
        today = day + timedelta(days=serial // 9_000)
        journey = Journey(
            dice(seed, "big", serial), today, serial % 9_000, person(dice(seed, serial), str(200_000 + serial))
        )
        journey.facility = MAIN
        for event in journey.events():
            if number == n:
                break
            number += 1
            written += stream.write(_message(event, number))
        serial += 1
    return written


def _message(event: Event, number: int) -> bytes:
    header = msh(MAIN, event.kind, f"BIG{number:010d}", event.when)
    return "\r".join((header, *event.body, "")).encode()


def big_ndjson(stream: BinaryIO, size: int, day: date = date(2026, 3, 9), seed: int = 1) -> int:
    """Write at least `size` bytes of the registry's valid Observations, ids counted up; return how many they are."""
    lines = [
        dumps({key: value for key, value in one.items() if key != "id"})
        for one in county(seed, day).resources
        if one["resourceType"] == "Observation" and "status" in one
    ]
    written = number = 0
    while written < size:
        line = lines[number % len(lines)]
        number += 1
        written += stream.write(b'{"id":"big-%d",' % number + line[1:] + b"\n")
    return number


def big_csv(rows: int, day: date = date(2026, 3, 9), seed: int = 1) -> Iterator[bytes]:
    """Yield a laboratory's results as chunks of whole rows, each row with an accession of its own."""
    file = eastlab(seed, day).files[1]
    header, _, body = file.data.partition(b"\n")
    lines = [line.partition(b",")[2] for line in body.split(b"\n") if line.count(b",") == header.count(b",")]
    yield header + b"\n"
    for start in range(0, rows, 1_000):
        numbers = range(start, min(start + 1_000, rows))
        yield b"".join(b"B%d,%b\n" % (number, lines[number % len(lines)]) for number in numbers)
