"""From a delivery's bytes to frames."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import BEGIN, Frame, Position
from tasks.parse.hl7v2 import Hl7v2Format

FORMAT = Hl7v2Format(Profile("northside"))
FILE = b"FHS|^~\\&|LAB\rBHS|^~\\&|LAB\r%sBTS|%d\rFTS|%d\r"


def message(n: int, *segments: str) -> bytes:
    lines = (f"MSH|^~\\&|A|B|||2020||ADT^A01|{n}|P|2.5.1", *(segments or ("PID|1||7",)), "")
    return "\r".join(lines).encode()


def frames(data: bytes, chunk: int = 0, start: Position = BEGIN) -> list[Frame]:
    data = data[start.offset :]
    chunk = chunk or max(len(data), 1)
    return list(FORMAT.split((data[at : at + chunk] for at in range(0, len(data), chunk)), start))


def codes(frame: Frame) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.location, finding.severity) for finding in frame.findings]


DELIVERIES = {
    "several": message(1) + message(2) + message(3),
    "blocks": b"".join(b"\x0b" + message(n) + b"\x1c\r" for n in range(3)),
    "batch": FILE % (message(1) + message(2), 2, 1),
    "two files": FILE % (message(1) + message(2), 2, 1) + FILE % (message(3), 9, 1),
    "batch in a block": b"\x0b" + FILE % (message(1) + message(2), 2, 1) + b"\x1c\r\x0b" + message(3) + b"\x1c\r",
    "garbage": b"hello\r" + message(1) + b"\r\rwhat is this\r" + message(2) + b"no segment\r" + message(3),
    "log": b"10:00 INFO " + message(1) + b"10:01 INFO " + message(2),
    "marks": b"\xef\xbb\xbf" + message(1) + b"\xef\xbb\xbf" + message(2),
    "utf-16": (message(1) + message(2)).decode().encode("utf-16"),
    "utf-16 big": ("\ufeff" + (message(1) + message(2)).decode()).encode("utf-16-be"),
    "utf-32": (message(1) + message(2)).decode().encode("utf-32"),
    "unfinished": b"\x0b" + message(1) + b"\x0b" + message(2) + b"\x1c\r\x0b" + message(3),
}


@pytest.mark.parametrize("data", DELIVERIES.values(), ids=DELIVERIES.keys())
@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_how_the_bytes_are_cut_into_chunks_does_not_matter(data: bytes, chunk: int) -> None:
    assert frames(data, chunk) == frames(data)


@pytest.mark.parametrize("data", DELIVERIES.values(), ids=DELIVERIES.keys())
def test_reading_goes_on_from_every_position_with_the_frames_that_follow(data: bytes) -> None:
    whole = frames(data)
    assert len(whole) >= 2
    for number, frame in enumerate(whole, start=1):
        assert frame.ordinal == number
        assert frame.location == f"message {number}"
        assert frames(data, start=frame.next) == whole[number:]
    assert whole[-1].next.offset == len(data)


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_every_line_end_gives_the_same_messages_and_keys(end: bytes) -> None:
    wanted = frames(message(1) + message(2))
    found = frames((message(1) + message(2)).replace(b"\r", end))
    assert [frame.key for frame in found] == [frame.key for frame in wanted]
    assert [FORMAT.parse(frame).content.first("PID").value(3) for frame in found] == ["7", "7"]


def test_the_key_differs_where_a_byte_differs_and_ignores_what_is_around_the_message() -> None:
    plain, block, marked, other = (
        frames(data)[0].key
        for data in (message(1), b"\x0b" + message(1) + b"\x1c\r", b"\xef\xbb\xbf" + message(1), message(2))
    )
    assert plain == block == marked != other
    assert plain is not None
    assert len(plain) == 32


def test_a_batch_of_n_equals_n_singles() -> None:
    singles = [frames(message(n))[0] for n in (1, 2, 3)]
    batch = frames(FILE % (message(1) + message(2) + message(3), 3, 1))
    assert [(frame.data, frame.key, frame.findings) for frame in batch] == [
        (frame.data, frame.key, frame.findings) for frame in singles
    ]


def test_counts_that_disagree_are_found_on_the_last_message() -> None:
    first, last = frames(FILE % (message(1) + message(2), 3, 2))
    assert codes(first) == []
    assert codes(last) == [("count-disagrees", "BTS-1", "warning"), ("count-disagrees", "FTS-1", "warning")]


def test_counts_are_known_when_reading_goes_on_in_the_middle_of_a_batch() -> None:
    data = FILE % (message(1) + message(2), 3, 1)
    position = frames(data)[0].next
    assert [codes(frame) for frame in frames(data, start=position)] == [[("count-disagrees", "BTS-1", "warning")]]


def test_a_batch_that_lost_all_its_messages_is_a_frame_with_an_error() -> None:
    (frame,) = frames(FILE % (b"", 3, 1))
    assert codes(frame) == [("count-disagrees", "BTS-1", "error")]
    with pytest.raises(BadRecord):
        FORMAT.parse(frame)


def test_an_empty_batch_and_an_empty_delivery_have_no_frames() -> None:
    assert frames(FILE % (b"", 0, 1)) == []
    assert frames(b"") == []
    assert frames(b"\r\n \r\n") == []


def test_a_batch_without_its_trailer_is_found() -> None:
    found = frames((FILE % (message(1) + message(2), 2, 1)).partition(b"BTS")[0])
    assert [codes(frame) for frame in found] == [[], [("batch-trailer-missing", "FHS", "warning")]]


def test_missing_end_bytes_are_found_and_lose_nothing() -> None:
    found = frames(DELIVERIES["unfinished"])
    assert [frame.data for frame in found] == [message(n).rstrip() for n in (1, 2, 3)]
    missing = [("end-bytes-missing", "MSH", "warning")]
    assert [codes(frame) for frame in found] == [missing, [], missing]


def test_garbage_between_messages_is_a_frame_with_an_error() -> None:
    found = frames(DELIVERIES["garbage"])
    error = [("not-hl7v2", "MSH", "error")]
    assert [codes(frame) for frame in found] == [error, [], error, [], error, []]
    assert [frame.data for frame in found if frame.findings] == [b"hello", b"what is this", b"no segment"]
    assert {frame.key for frame in found if frame.findings} == {None}
    assert [frame.data for frame in found if not frame.findings] == [message(n).rstrip() for n in (1, 2, 3)]


def test_garbage_between_blocks_is_a_frame_with_an_error() -> None:
    found = frames(b"\x0b" + message(1) + b"\x1c\rjunk\r\x0b" + message(2) + b"\x1c\r")
    assert [frame.data for frame in found] == [message(1).rstrip(), b"junk", message(2).rstrip()]


def test_a_line_end_inside_a_note_stays_with_its_message() -> None:
    found = frames(message(1, "NTE|1||first line\nsecond line") + message(2))
    assert [codes(frame) for frame in found] == [[], []]
    assert b"second line" in found[0].data


def test_a_line_with_separators_after_the_last_segment_is_the_rest_of_it() -> None:
    (found,) = frames(message(1, "OBX|1|TX|A||first line\nsecond line||||||F"))
    assert found.data.endswith(b"||||||F")


@pytest.mark.parametrize("data", [b"abc", b"\0\x01" * 100_000, b"a\x1cb", b"MSH", b"M", b"MSHELL|x", b"PID|1||7\r"])
def test_a_delivery_without_any_message_is_refused(data: bytes) -> None:
    with pytest.raises(BadRecord) as refused:
        frames(data, chunk=1000)
    assert [(finding.code, finding.location) for finding in refused.value.findings] == [("not-hl7v2", "MSH")]


def test_a_segment_name_in_a_fields_text_begins_no_message() -> None:
    (found,) = frames(message(1, "OBX|1|TX|||see MSH|^~\\&| or BTS|5", "OBX|2|TX|||FHS BHS MSH"))
    assert found.data.count(b"OBX") == 2


def test_wide_encodings_give_the_same_messages_as_their_utf_8_twin() -> None:
    text = message(1, "PID|1||7||Müller^Zoë").decode()
    wanted = FORMAT.parse(frames(text.encode())[0]).content
    for name in ("utf-16", "utf-32", "utf-16-le", "utf-16-be"):
        (frame,) = frames(text.encode(name))
        message_ = FORMAT.parse(frame).content
        assert [segment.fields for segment in message_.segments] == [segment.fields for segment in wanted.segments]
        assert message_.findings == ()


def test_a_message_that_never_ends_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.parse.v2_framing.MAX_MESSAGE", 1 << 20)
    found = frames(message(1) + message(2, "OBX|1|TX|||" + "x" * (3 << 20)) + message(3), chunk=65536)
    assert codes(found[0]) == codes(found[-1]) == []
    assert codes(found[1]) == [("message-too-large", "MSH", "error")]
    assert {code for frame in found[2:-1] for code, _, _ in codes(frame)} == {"not-hl7v2"}


def test_memory_does_not_grow_with_the_number_of_messages() -> None:
    def chunks() -> Iterator[bytes]:
        block = b"".join(message(n, "PID|1||" + "7" * 400) for n in range(100))
        for _ in range(100):
            yield block

    tracemalloc.start()
    count = sum(1 for _ in FORMAT.split(chunks()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 10_000
    assert peak < 1_000_000
