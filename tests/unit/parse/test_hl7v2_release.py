"""A message lets go of itself: nothing waits for the garbage collector."""

from __future__ import annotations

import gc
import weakref

import pytest

from mappings.engine.model import Profile
from tasks.model import BEGIN, Frame
from tasks.pipeline import Pipeline

TEXT = (
    b"MSH|^~\\&|LAB|NORTHSIDE|EHR|WEST|20240310103000-0500||ADT^A01^ADT_A01|M1|P|2.5.1\r"
    b"PID|1||7^^^NORTHSIDE^MR||Doe^Jane\rPV1|1|I|ICU^1^A"
)


def test_a_message_is_gone_when_nobody_holds_it() -> None:
    pipeline = Pipeline(Profile("northside", timezone="America/New_York"), "hl7v2")
    frame = Frame(1, "message 1", TEXT, BEGIN)
    pipeline.run(frame)
    gc.collect()
    gc.disable()
    try:
        parsed = pipeline.format.parse(frame)
        message = weakref.ref(parsed.content)
        pipeline.converter.convert(parsed)
        del parsed
        assert message() is None
    finally:
        gc.enable()


def test_a_segments_tree_is_asked_for_in_vain_when_its_message_is_gone() -> None:
    pipeline = Pipeline(Profile("northside", timezone="America/New_York"), "hl7v2")
    segment = pipeline.format.parse(Frame(1, "message 1", TEXT, BEGIN)).content.segments[1]
    assert segment.value(5) == "Doe"
    with pytest.raises(ReferenceError, match="hold it"):
        _ = segment.parent
