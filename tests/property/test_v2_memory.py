"""What was said before never shows: a converter that has seen thousands of messages says what a new one says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.engine.json import canonical
from mappings.engine.model import Profile
from mappings.engine.v2 import Memories, convert_message
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.errors import BadRecord
from tasks.model import Conversion
from tasks.parse.hl7v2 import Hl7v2Format

PROFILE = Profile("northside", timezone="America/New_York")
FORMAT = Hl7v2Format(PROFILE)
MESSAGES = [
    frame.data
    for path in sorted((Path(__file__).parents[1] / "golden" / "v2").glob("*/input.hl7"))
    for frame in FORMAT.split([path.read_bytes()])
]
ODD = (b"", b'""', b"^", b"~", b"&", b" ", b"^~&", b"\\T\\")


def changed(message: bytes, chance: random.Random) -> bytes:
    """Return a message some of whose fields are empty, cleared, cut off, repeated, or those of another message."""
    segments = [text for text in message.replace(b"\n", b"\r").split(b"\r") if text]
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(segments))
        fields = segments[at].split(b"|")
        first = 8 if segments[at].startswith(b"MSH") else 1
        if len(fields) <= first:
            continue
        n = chance.randrange(first, len(fields))
        others = [text for text in chance.choice(MESSAGES).split(b"\r") if text[:3] == segments[at][:3]]
        other = chance.choice(others).split(b"|") if others else fields
        fields = chance.choice(
            [
                [*fields[:n], chance.choice(ODD), *fields[n + 1 :]],
                fields[: max(n, 12)],
                [*fields, *[b""] * n],
                [*fields[:n], fields[n] + b"~" + fields[n], *fields[n + 1 :]],
                [*fields[:n], *other[n : n + 1], *fields[n + 1 :]],
            ]
        )
        segments[at] = b"|".join(fields)
    return b"\r".join(segments) + b"\r"


def parsed(data: bytes) -> Iterator[Any]:
    for frame in FORMAT.split([data]):
        try:
            yield FORMAT.parse(frame).content
        except BadRecord:
            continue


def said(conversion: Conversion) -> tuple[bytes, list[Any], list[Any]]:
    entries = [[one.resource, one.slots, one.cleared, one.deleted] for one in conversion.entries]
    return canonical(entries), sorted(conversion.findings, key=repr), conversion.unmapped


@pytest.mark.parametrize("seed", range(2))
def test_a_converter_that_has_seen_much_says_what_a_new_one_says(seed: int) -> None:
    chance = random.Random(seed)
    maps, old = Hl7v2Converter(PROFILE).maps, Memories()
    for message in MESSAGES * 2:
        for content in parsed(message):
            convert_message(maps, content, PROFILE, old)
    for _ in range(80):
        data = changed(chance.choice(MESSAGES), chance)
        for content in parsed(data):
            new = convert_message(maps, content, PROFILE, Memories())
            assert said(convert_message(maps, content, PROFILE, old)) == said(new), data
