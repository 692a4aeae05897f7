"""NDJSON is checked the same however it is cut into chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.source import bulk_lines
from tasks.source.bulk_lines import Checked, LineCheck, LineCount


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Iterator[None]:
    """Cut these few bytes into blocks as large files are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk_lines, "_BLOCK", 50)
        yield


LINES = [
    b'{"resourceType":"Patient","id":"a"}',
    b' {"resourceType":"Patient","id":"b"}',
    b'{"resourceType":"Group","id":"c"}\r',
    b'{"resourceType":"Patient","id":"a"}',
    b"",
    b"  ",
    b'{"resourceType":"Patient"',
    b'{"no":"type"}',
    b"[1]",
    b'{"resourceType":"Patient","id":"e"}{"resourceType":"Patient","id":"f"}',
    b"\xff\xfe",
]


def check(data: bytes, size: int, expected: str = "Patient") -> Checked:
    found = LineCheck(expected)
    for start in range(0, len(data), size):
        found.feed(data[start : start + size])
    return found.close()


def slowly(lines: list[bytes]) -> tuple[int, int, int]:
    resources = blank = 0
    for line in lines:
        if not line.strip():
            blank += 1
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        resources += isinstance(value, dict) and "resourceType" in value
    return resources, blank, len(lines) - resources - blank


@given(st.lists(st.sampled_from(LINES), max_size=30), st.integers(1, 80), st.booleans())
def test_any_file_in_any_chunks_is_counted_as_line_by_line(lines, size, ended):
    data = b"\n".join(lines) + (b"\n" if ended and lines else b"")
    found = check(data, size)
    real = lines if ended or not lines or lines[-1] else lines[:-1]
    assert (found.resources, found.blank, found.broken) == slowly(real)
    assert found == check(data, 10_000)
    assert list(found.places) == [n for n, line in enumerate(real, 1) if line.strip() and not slowly([line])[0]]


def test_a_clean_file_is_told_from_one_to_be_cleaned():
    good = b'{"resourceType":"Patient","id":"a"}\n'
    assert check(good * 3, 20).clean
    for bad in (good[:-1], good + b"\n", b" " + good, good.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + good):
        assert not check(bad, 20).clean
        assert check(bad, 20).broken == 0


def test_duplicates_and_other_types_are_counted():
    found = check(b"\n".join([LINES[0], LINES[3], LINES[2].strip()]) + b"\n", 1000)
    assert (found.resources, found.duplicates, found.other_type) == (3, 1, 1)


@given(st.lists(st.sampled_from([*LINES, b"\r", b"x"]), max_size=12), st.integers(1, 50), st.booleans())
def test_lines_are_counted_without_the_blank_ones_however_they_are_cut(lines, size, ended):
    data = b"\n".join(lines) + b"\n" * ended
    count = LineCount()
    for start in range(0, len(data), size):
        count.feed(data[start : start + size])
    assert count.close() == sum(1 for line in data.split(b"\n") if line.strip())
