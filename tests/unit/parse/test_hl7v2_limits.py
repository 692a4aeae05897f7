"""A message that is small to send and enormous to read stops itself alone; a large one that is only large is read."""

from __future__ import annotations

import sys

import pytest

from tasks import work
from tasks.errors import BadRecord
from tasks.model import BEGIN
from tasks.parse.v2_read import PARTS, read_message

HEAD = b"MSH|^~\\&|ADT|NORTH|SLUICE|HUB|20260309100000-0500||ADT^A01^ADT_A01|C1|P|2.5.1\r"


@pytest.mark.parametrize("piece", [b"1~", b"1^", b"1&", b"1|", b"\rNTE|1"])
def test_parts_without_end_are_refused_before_they_are_read(piece: bytes) -> None:
    with pytest.raises(BadRecord) as refused:
        read_message(HEAD + b"PID|1||" + piece * (PARTS + 1))
    assert [one.code for one in refused.value.findings] == ["message-too-complex"]


def test_a_long_document_in_one_component_is_read() -> None:
    message = read_message(HEAD + b"OBX|1|ED|DOC||^application^pdf^Base64^" + b"QUJD" * (PARTS // 2))
    assert len(message.segments[1].value(5, 1, 5)) == 4 * (PARTS // 2)


@pytest.mark.parametrize("piece", [b"NTE|1\r", b"OBX|1|TX|REPORT^Report^L||a line\r"])
def test_many_segments_cost_what_they_are_many_and_not_more(piece: bytes) -> None:
    """Four times the segments take four times the steps, not sixteen: notes of one patient, lines of one report."""
    pipeline = work.pipeline("northside.hl7")

    def calls(number: int) -> int:
        data = HEAD + b"PID|1||1^^^NORTHSIDE^MR\r" + piece * number
        [frame] = pipeline.format.split(iter([data]), BEGIN)
        count = 0

        def note(*_: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(note)
        try:
            pipeline.run(frame)
        finally:
            sys.setprofile(None)
        return count

    calls(1_000)
    assert calls(4_000) < 5 * calls(1_000)
