"""FHIR as NDJSON: what is a record, where it stands, and how reading goes on."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.engine.json import dumps
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


PRINTED = b'{\n  "resourceType": "Patient",\n  "id": "9",\n  "name": [\n    {"family": "x"}\n  ]\n}\n'


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_resources_that_are_printed_over_lines_are_read_and_reading_goes_on_at_each(size: int, end: bytes) -> None:
    data = b"\xef\xbb\xbf\n" + (PRINTED + b"\n" + PRINTED.replace(b"9", b"8") + PLAIN).replace(b"\n", end)
    found = frames(data, size)
    assert [(f.location, FORMAT.parse(f).content["id"]) for f in found] == [
        ("resource 1", "9"),
        ("resource 2", "8"),
        ("resource 3", "2"),
    ]
    for done, frame in enumerate(found, 1):
        position = frame.next
        assert list(FORMAT.split([data[position.offset :]], position)) == found[done:]


def test_a_printed_resource_that_is_cut_short_says_so() -> None:
    whole, cut = frames(PRINTED + PRINTED[:-5])
    assert FORMAT.parse(whole).content["id"] == "9"
    assert code(cut) == "truncated"


@pytest.mark.parametrize("rest", [b"]", b",", b"}\n", b"x"])
def test_what_stands_between_printed_resources_is_refused_and_they_are_not(rest: bytes) -> None:
    found = frames(PRINTED + rest + PRINTED)
    assert FORMAT.parse(found[0]).content["id"] == "9"
    assert any(code(one) == "not-json" for one in found[1:])


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b'{"resourceType":"Patient","id":"1","id":"2"}', "Patient.id"),
        (b'{"resourceType":"Patient","name":[{"family":"a"},{"family":"a","family" : "a"}]}', "Patient.name[1].family"),
        (b'{"resourceType" :"Patient","id" :"1", "active" : true,"id":"2"}', "Patient.id"),
        (b'{"resourceType":"Patient","resourceType":"Patient"}', "Patient.resourceType"),
        (b'{"resourceType":"Patient","a b":1,"a b":2}', "Patient"),
        (b'{"resourceType":"Patient","id":"1","id":"\\u0022:"}', "Patient.id"),
        (b'{"resourceType":"Patient","language":"a","l\\u0061nguage":"b"}', "Patient.language"),
    ],
)
def test_a_name_that_stands_twice_is_refused_at_its_place(text: bytes, path: str) -> None:
    with pytest.raises(BadRecord) as caught:
        FORMAT.parse(frames(text)[0])
    assert [(one.code, one.location) for one in caught.value.findings] == [("duplicate-key", path)]


@pytest.mark.parametrize("text", ['"\\u0022:"', '"\\":\\":"', '"a\\" : b"', '{"value" : "x"}', '[{"a":1},{"a":1}]'])
def test_what_looks_like_a_name_is_not_taken_for_one(text: str) -> None:
    data = b'{"resourceType":"Patient","x":' + text.encode() + b"}"
    assert FORMAT.parse(frames(data)[0]).content["resourceType"] == "Patient"


@pytest.mark.parametrize("number", ["1.10", "1E-20", "0.000", "123456789012345678.90", "-5", "100"])
def test_a_number_keeps_its_digits(number: str) -> None:
    data = b'{"resourceType":"Observation","value":' + number.encode() + b"}"
    content = FORMAT.parse(frames(data)[0]).content
    assert dumps(content) == data


@pytest.mark.parametrize(
    "number", ["1e-99999", "1E-999999999", "0." + "0" * 5000 + "1", "1e301", "-1E+999999999", "1" * 302]
)
def test_a_number_that_no_store_keeps_is_refused(number: str) -> None:
    data = b'{"resourceType":"Observation","value":' + number.encode() + b"}"
    assert code(frames(data, limit=10_000)[0]) == "number-out-of-range"
