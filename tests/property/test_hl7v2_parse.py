"""The parser on arbitrary bytes, and what must not change what a message says."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TypeVar

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import BEGIN, Frame
from tasks.parse.hl7v2 import Hl7v2Format, Message

T = TypeVar("T")
FORMAT = Hl7v2Format(Profile("northside"))
HEAD = b"MSH|^~\\&|A|B|||2020||ORU^R01|1|P|2.5.1"
PIECES = [
    b"MSH|^~\\&|",
    b"MSH",
    b"\rMSH|^~\\&|A|B|||2020||ADT^A01|1|P|2.3||||||8859/1\r",
    b"FHS|^~\\&\r",
    b"BHS|^~\\&\r",
    b"BTS|2\r",
    b"FTS|1",
    b"\x0b",
    b"\x1c\r",
    b"\x1c",
    b"\r",
    b"\n",
    b"\rPID|1||7^^^A&B~8\\X",
    b"\rOBX|1|TX|||\\.br\\\\XE9\\",
    b"\rNTE|",
    b"\rZAB",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\0",
    b"\x1b$B",
    "é花".encode(),
    b"\xe9\x80",
]
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="|^~\\&!$%@\ufeff"), max_size=12)
BYTES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)), max_size=24).map(b"".join),
)
LATIN = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"], exclude_characters="|^~\\&!$%@"), max_size=12)
Segments = list[tuple[str, list[list[list[list[str]]]]]]


def segments_of(text: st.SearchStrategy[str], most: int) -> st.SearchStrategy[Segments]:
    """Return a strategy for segments of fields of `text`."""
    component = st.lists(text, min_size=1, max_size=2)
    repetition = st.lists(component, min_size=1, max_size=3)
    field = st.lists(repetition, min_size=1, max_size=2)
    name = st.sampled_from(["PID", "OBR", "OBX", "NTE", "SPM", "PV1", "ORC", "ZAB"])
    return st.lists(st.tuples(name, st.lists(field, max_size=4)), max_size=most)


SEGMENTS = segments_of(TEXT, 6)


def parse(data: bytes) -> Message:
    message: Message = FORMAT.parse(Frame(1, "message 1", data, BEGIN)).content
    return message


def write(segments: Segments, marks: str = "|^~\\&", charset: str = "") -> str:
    """Write segments with the separators `marks`, escaping these in values."""
    field, component, repetition, escape, sub = marks
    letters = dict(zip(marks, "FSRET", strict=True))

    def value(text: str) -> str:
        return "".join(f"{escape}{letters[char]}{escape}" if char in letters else char for char in text)

    def written(one: list[list[list[str]]]) -> str:
        return repetition.join(component.join(sub.join(map(value, part)) for part in rep) for rep in one)

    head = ["MSH", marks[1:], "A", "B", "", "", "2020", "", f"ORU{component}R01", "1", "P", "2.5.1", *[""] * 5, charset]
    lines = [field.join(head), *(field.join((name, *map(written, fields))) for name, fields in segments)]
    return "\r".join(lines) + "\r"


def read_all(message: Message) -> None:
    for segment in message.segments:
        assert len(segment.fields) == segment.count + 1
        assert segment.value(5) == (segment.field(5)[0][0][0] if segment.field(5) else "")
        assert segment.parent is None or segment in segment.parent.children
        for name in ("PID", "OBR", "OBX", "ZAB", "NTE"):
            assert segment.nearest(name) is None or segment.nearest(name) in message.segments
            assert all(found.index > segment.index for found in segment.below(name))


@settings(max_examples=400)
@given(BYTES)
@example(b"MSH|^~\\&|\\\\|\\X|||||A")
@example(b"\xff\xfeM\0S\0H\0|\0^\0~\0\\\0&\0")
def test_parsing_arbitrary_bytes_gives_a_message_or_a_bad_record(data: bytes) -> None:
    for prefix in (b"", HEAD, HEAD + b"\r", HEAD + b"||||||UNICODE UTF-16\r", HEAD + b"||||||~ISO IR87\r"):
        with suppress(BadRecord):
            read_all(parse(prefix + data))


@settings(max_examples=400)
@given(BYTES, st.integers(1, 40))
def test_splitting_arbitrary_bytes_loses_none_and_goes_on_anywhere(data: bytes, size: int) -> None:
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    try:
        frames = list(FORMAT.split(chunks))
    except BadRecord:
        return
    assert frames == list(FORMAT.split([data]))
    for number, frame in enumerate(frames, start=1):
        assert frame.ordinal == number
        assert frame.data
        assert list(FORMAT.split([data[frame.next.offset :]], frame.next)) == frames[number:]
    if not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\0", b"M\0")):
        assert _inked(b"".join(frame.data for frame in frames)) <= _inked(data)
        assert all(frame.data in data for frame in frames)


def _inked(data: bytes) -> int:
    return len(re.sub(rb"[\s\0]", b"", data))


def _trimmed(field: list[list[list[str]]]) -> list[list[list[str]]]:
    """Return a field without what is empty at its end: a separator with nothing behind it separates nothing."""
    full = [_full([_full(part, "") or [""] for part in repetition], [""]) or [[""]] for repetition in field]
    return _full(full, [[""]])


def _full(parts: list[T], nothing: T) -> list[T]:
    while parts and parts[-1] == nothing:
        parts = parts[:-1]
    return parts


@given(SEGMENTS)
def test_what_was_written_is_read(segments: Segments) -> None:
    message = parse(write(segments).encode())
    assert [segment.name for segment in message.segments] == ["MSH", *(name for name, _ in segments)]
    for segment, (_, fields) in zip(message.segments[1:], segments, strict=True):
        for n, field in enumerate(fields, start=1):
            said = [[list(part) for part in repetition] for repetition in segment.field(n)]
            assert said == _trimmed(field)


@given(SEGMENTS, st.permutations("!$%@|"))
def test_changed_separators_give_equal_content(segments: Segments, marks: list[str]) -> None:
    usual = parse(write(segments).encode())
    other = parse(write(segments, "".join(marks)).encode())
    assert [one.fields for one in other.segments[1:]] == [one.fields for one in usual.segments[1:]]
    assert [one.fields[3:] for one in other.segments[:1]] == [one.fields[3:] for one in usual.segments[:1]]
    assert other.findings == usual.findings


@given(segments_of(LATIN, 4))
def test_latin_1_declared_as_such_equals_its_utf_8_twin(segments: Segments) -> None:
    twin = write(segments, charset="UNICODE UTF-8")
    latin = write(segments, charset="8859/1")
    # Latin-1 that is valid UTF-8 by accident (Ã followed by ©) is read as UTF-8, with a finding.
    assume(latin.isascii() or not _valid(latin.encode("latin-1")))
    one, other = parse(latin.encode("latin-1")), parse(twin.encode())
    assert [segment.fields for segment in one.segments[1:]] == [segment.fields for segment in other.segments[1:]]
    assert one.findings == other.findings


def _valid(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@given(st.lists(segments_of(TEXT, 2), min_size=1, max_size=3), st.sampled_from(["\r", "\n", "\r\n"]))
def test_a_batch_of_n_equals_n_singles(messages: list[Segments], end: str) -> None:
    singles = [write(segments) for segments in messages]
    file = f"FHS|^~\\&\rBHS|^~\\&\r{''.join(singles)}BTS|{len(singles)}\rFTS|1\r"
    found = list(FORMAT.split([file.replace("\r", end).encode()]))
    assert all(not frame.findings for frame in found)
    alone = [next(FORMAT.split([single.encode()])) for single in singles]
    assert [frame.key for frame in found] == [frame.key for frame in alone]
    for frame, single in zip(found, alone, strict=True):
        said, wanted = FORMAT.parse(frame).content, FORMAT.parse(single).content
        assert [segment.fields for segment in said.segments] == [segment.fields for segment in wanted.segments]


@given(SEGMENTS, st.data())
def test_a_local_segment_changes_nothing_else(segments: Segments, data: st.DataObject) -> None:
    plain = parse(write(segments).encode())
    place = data.draw(st.integers(0, len(segments)))
    more: Segments = [*segments[:place], ("ZQQ", [[[["x"]]]]), *segments[place:]]
    local = parse(write(more).encode())
    kept = [segment for segment in local.segments if segment.name != "ZQQ"]
    assert [segment.fields for segment in kept] == [segment.fields for segment in plain.segments]
    for one, other in zip(kept, plain.segments, strict=True):
        assert repr(one.parent) == repr(other.parent)
        for name in ("PID", "OBR", "OBX", "SPM", "NTE"):
            assert repr(one.nearest(name)) == repr(other.nearest(name))
            assert repr(one.below(name)) == repr(other.below(name))
    assert local.findings == plain.findings


@pytest.mark.parametrize("end", [b"\r", b"\n"])
def test_a_large_value_takes_linear_time(end: bytes) -> None:
    value = b"a\\F\\b" * 400_000
    (frame,) = FORMAT.split([HEAD + end + b"OBX|1|TX|||" + value + end])
    assert FORMAT.parse(frame).content.segments[1].value(5) == "a|b" * 400_000
