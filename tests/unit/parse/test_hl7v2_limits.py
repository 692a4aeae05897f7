"""A message that is small to send and enormous to read stops itself alone; a large one that is only large is read."""

from __future__ import annotations

import pytest

from tasks.errors import BadRecord
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


def test_many_segments_cost_what_they_are_many_and_not_more() -> None:
    """Eight times the segments take eight times the steps of a look for the one that they stand under, not 64."""
    import time

    from tasks import work
    from tasks.model import BEGIN

    pipeline = work.pipeline("northside.hl7")
    seconds = []
    for number in (2_000, 2_000, 16_000):
        data = HEAD + b"PID|1||1^^^NORTHSIDE^MR\r" + b"NTE|1\r" * number
        [frame] = pipeline.format.split(iter([data]), BEGIN)
        began = time.process_time()
        pipeline.run(frame)
        seconds.append(time.process_time() - began)
    assert seconds[2] < 30 * max(seconds[1], 0.01)
