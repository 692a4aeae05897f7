"""Every sample message is read: set SLUICE_SAMPLES to the folder that holds `hl7v2/`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mappings.engine.model import Profile
from tasks.parse.hl7v2 import Hl7v2Format

SAMPLES = os.environ.get("SLUICE_SAMPLES", "")
FORMAT = Hl7v2Format(Profile("samples"))


@pytest.mark.skipif(not SAMPLES, reason="SLUICE_SAMPLES names no folder of samples")
def test_every_sample_message_is_read_with_all_its_segments() -> None:
    paths = sorted(Path(SAMPLES, "hl7v2").rglob("*.hl7"))
    assert paths
    for path in paths:
        data = path.read_bytes()
        frames = list(FORMAT.split([data]))
        assert [frame.findings for frame in frames] == [()] * len(frames), path.name
        for frame in frames:
            message = FORMAT.parse(frame).content
            lines = [line for line in frame.data.replace(b"\n", b"\r").split(b"\r") if line.strip()]
            broken = sum(one.code in ("stray-line", "segment-name-invalid") for one in message.findings)
            assert len(message.segments) + broken == len(lines), path.name
            assert all(segment.parent for segment in message.segments[1:]), path.name
