"""FHIR as NDJSON: what is a record, where it stands, and how reading goes on."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import Frame
from tasks.parse.fhir import NdjsonFormat

FORMAT = NdjsonFormat(Profile("north"))
VERSIONED = b'{"resourceType":"Patient","id":"1","meta":{"versionId":"1","lastUpdated":"2024-01-01T00:00:00Z"}}'
PLAIN = b'{"resourceType":"Patient","id":"2"}'


def frames(data: bytes, size: int = 1 << 16, limit: int = 1000) -> list[Frame]:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return list(NdjsonFormat(Profile("north"), limit).split(pieces))


def code(frame: Frame) -> str:
    with pytest.raises(BadRecord) as caught:
        FORMAT.parse(frame)
    return caught.value.findings[0].code


def test_blank_lines_line_ends_and_a_byte_order_mark_are_passed_over() -> None:
    data = b"\xef\xbb\xbf" + PLAIN + b"\r\n\r\n   \n" + VERSIONED + b"\n\n" + PLAIN
    found = frames(data)
    assert [(f.ordinal, f.location, f.data) for f in found] == [
        (1, "line 1", PLAIN),
        (2, "line 4", VERSIONED),
        (3, "line 6", PLAIN),
    ]


def test_a_file_without_a_record_has_no_frames() -> None:
    assert frames(b"") == frames(b"\xef\xbb\xbf\r\n\n") == []


def test_a_broken_line_is_a_record_that_cannot_be_read_and_its_neighbours_can() -> None:
    first, broken, last = frames(PLAIN + b'\n{"resourceType": "Pat\n' + PLAIN)
    assert FORMAT.parse(first).content == FORMAT.parse(last).content == {"resourceType": "Patient", "id": "2"}
    assert (broken.location, code(broken)) == ("line 2", "not-json")


@pytest.mark.parametrize("text", [b"[1]", b"5", b'"x"', b"null", b"{}", b'{"resourceType":5}'])
def test_json_that_is_no_resource_is_refused(text: bytes) -> None:
    assert code(frames(text)[0]) == "not-a-resource"


@pytest.mark.parametrize("text", [b"\xff\xfe{\x00", b"{" * 5000, b'{"a":NaN}', b'"\\ud800"'])
def test_bytes_that_are_no_json_are_refused(text: bytes) -> None:
    assert code(frames(text, limit=10_000)[0]) == "not-json"


@pytest.mark.parametrize("size", [1, 7, 100, 100_000])
def test_a_line_beyond_the_limit_is_refused_unread_and_its_neighbours_are_not(size: int) -> None:
    found = frames(PLAIN + b"\n" + b"x" * 5000 + b"\n" + PLAIN + b"\n" + b"y" * 1001, size)
    assert [f.location for f in found] == ["line 1", "line 2", "line 3", "line 4"]
    assert [f.data for f in found] == [PLAIN, b"", PLAIN, b""]
    assert [code(found[1]), code(found[3])] == ["too-large", "too-large"]
    assert len(frames(b"x" * 1000)[0].data) == 1000


def test_a_resource_that_names_its_version_is_known_again_by_its_bytes() -> None:
    first, again, other = frames(VERSIONED + b"\n" + VERSIONED + b"\r\n" + VERSIONED.replace(b'"1"', b'"2"', 1))
    assert first.key == again.key == hashlib.sha256(VERSIONED).digest()
    assert other.key not in {None, first.key}


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        b'{"resourceType":"Patient","meta":{"versionId":"1"}}',
        b'{"resourceType":"Patient","contained":[' + VERSIONED + b"]}",
        b'{"resourceType":"Patient","meta":"versionId lastUpdated"}',
    ],
)
def test_any_other_resource_is_news_each_time(text: bytes) -> None:
    assert frames(text)[0].key is None


@given(st.lists(st.sampled_from([PLAIN, VERSIONED, b"", b" ", b"{bad", b"z" * 60])), st.integers(1, 80), st.booleans())
@settings(deadline=None)
def test_reading_goes_on_from_any_position_whatever_the_chunks(lines: list[bytes], size: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    whole = frames(data, limit=50)
    assert frames(data, size, limit=50) == whole
    for done, frame in enumerate(whole, 1):
        rest = NdjsonFormat(Profile("north"), 50).split([data[frame.next.offset :]], frame.next)
        assert list(rest) == whole[done:]


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_no_bytes_break_the_splitter_or_the_parser(data: bytes) -> None:
    assert {code(frame) for frame in frames(data)} <= {"not-json", "not-a-resource"}


def test_a_large_file_is_read_in_the_memory_of_a_chunk() -> None:
    def file() -> Iterator[bytes]:
        for _ in range(200):
            yield (VERSIONED + b"\n") * 700

    tracemalloc.start()
    try:
        count = sum(1 for _ in FORMAT.split(file()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 140_000
    assert peak < 2_000_000


def test_a_source_is_not_read_further_than_asked() -> None:
    taken: list[int] = []

    def file() -> Iterator[bytes]:
        for i in range(100):
            taken.append(i)
            yield PLAIN + b"\n"

    assert len(list(islice(FORMAT.split(file()), 3))) == 3
    assert len(taken) <= 4
