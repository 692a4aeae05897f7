"""What the partners send while there is chaos: days of the sample partners cut into small pieces, a round a piece.

A round brings one file a feed at most, so that its order of landing is the same in every run: one of new messages, one
that comes again under another name, one that corrects an earlier one.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import islice
from typing import Any, Literal, get_args

from infra.dev.partners import Day, generate

Feed = Literal["hl7", "csv", "mllp", "http"]
MESSAGES = 8
RESOURCES = 3
"""How many a Bundle has."""
LINES = 12
_MESSAGE = re.compile(rb"MSH\|.*?(?=MSH\||BTS\||FTS\||\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Round:
    """What one feed is sent in a round: a file, or messages over a connection."""

    feed: Feed
    name: str
    data: bytes = b""
    messages: tuple[bytes, ...] = ()


def rounds(seed: int, feeds: tuple[Feed, ...] = get_args(Feed)) -> Iterator[Round]:
    """Yield rounds without an end, the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - a plan that can be repeated, no secret
    pieces = {"hl7": _hl7(seed), "csv": _csv(seed), "mllp": _mllp(seed), "http": _http(seed)}
    sent: dict[str, list[Round]] = {feed: [] for feed in feeds}
    number = 0
    while True:
        for feed in feeds:
            number += 1
            before = sent[feed]
            word = dice.random()
            if before and before[0].data and word < 0.1:
                again = dice.choice(before)
                yield Round(feed, f"again_{number:04}_{again.name}", again.data)
            elif before and before[0].data and word < 0.25:
                first = before.pop(dice.randrange(len(before)))
                yield Round(feed, first.name, _corrected(feed, first.data))
            else:
                new = next(pieces[feed])
                before.append(new)
                yield new


def _days(seed: int) -> Iterator[Day]:
    day = date(2026, 3, 9)
    while True:
        yield generate(seed, day)
        day += timedelta(days=1)


def _messages(day: Day) -> Iterator[bytes]:
    for file in day.northside:
        if file.kind == "new":
            yield from _MESSAGE.findall(file.data.replace(b"\n", b"\r").replace(b"\r\r", b"\r"))


def _hl7(seed: int) -> Iterator[Round]:
    for day in _days(seed):
        messages = _messages(day)
        number = 0
        while piece := list(islice(messages, MESSAGES)):
            number += 1
            yield Round("hl7", f"day_{day.day:%Y%m%d}_{number:04}.hl7", b"".join(piece))


def _mllp(seed: int) -> Iterator[Round]:
    for day in _days(seed + 1):
        messages = (one for one in _messages(day) if one.count(b"\r") > 2)
        number = 0
        while piece := list(islice(messages, MESSAGES)):
            number += 1
            yield Round("mllp", f"live {day.day} {number}", messages=tuple(piece))


def _http(seed: int) -> Iterator[Round]:
    for day in _days(seed):
        resources = iter(day.county)
        number = 0
        while piece := list(islice(resources, MESSAGES * RESOURCES)):
            number += 1
            bundles = (_bundle(piece[start : start + RESOURCES]) for start in range(0, len(piece), RESOURCES))
            yield Round("http", f"posted {day.day} {number}", messages=tuple(bundles))


def _bundle(resources: list[dict[str, Any]]) -> bytes:
    entries = [{"resource": one} for one in resources]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}, default=str).encode()


def _csv(seed: int) -> Iterator[Round]:
    for day in _days(seed):
        number = 0
        for file in day.eastlab:
            if file.kind != "new" or not file.name.startswith("results/"):
                continue
            header, *lines = file.data.splitlines(keepends=True)
            for start in range(0, len(lines), LINES):
                number += 1
                part = header + b"".join(lines[start : start + LINES])
                yield Round("csv", f"results/part_{day.day:%Y%m%d}_{number:04}.csv", part)


def _corrected(feed: Feed, data: bytes) -> bytes:
    """Leave out the last message or line: what only the first file said is to be taken back."""
    if feed == "hl7":
        return b"".join(_MESSAGE.findall(data)[:-1]) or data + b"\r"
    return b"".join(data.splitlines(keepends=True)[:-1])
