"""Blocks are the same however their bytes were chopped, and segments give back what was added."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import Permanent
from tasks.landing.store import Landing
from tasks.listen.frames import Block, Cutter, NotMllp, TooLarge

TEXT = st.text("MSH|PIDOBX^~\\&abcü 0123\r", max_size=60).map(lambda text: b"MSH|" + text.encode())


def chopped(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def blocks(pieces: list[bytes], limit: int = 1 << 20) -> list[Block]:
    cutter = Cutter(limit)
    return [block for piece in pieces for block in cutter.feed(piece)]


@given(st.lists(st.tuples(TEXT, st.booleans()), min_size=1, max_size=6), st.lists(st.integers(0, 9), max_size=80))
def test_however_bytes_are_chopped_the_blocks_are_the_same(said: list[tuple[bytes, bool]], sizes: list[int]) -> None:
    said[-1] = (said[-1][0], True)
    data = b"".join(b"\x0b" + text + (b"\x1c\r" if ended else b"") for text, ended in said)
    assert blocks(chopped(data, sizes)) == [Block(text, ended) for text, ended in said]


@given(st.binary(max_size=300), st.lists(st.integers(0, 9), max_size=60))
def test_any_bytes_are_cut_the_same_way_in_pieces_as_whole(data: bytes, sizes: list[int]) -> None:
    data = b"\x0b" + data + b"\x1c\r\x0bMSH|end\x1c\r"
    assert blocks(chopped(data, sizes)) == blocks([data])


def test_an_end_byte_with_text_behind_it_belongs_to_the_text() -> None:
    assert blocks([b"\x0bMSH|a\x1cb\x1c\r"]) == [Block(b"MSH|a\x1cb")]


def test_what_is_too_long_is_refused_before_it_fills_the_memory() -> None:
    cutter = Cutter(1000)
    assert list(cutter.feed(b"\x0bMSH|" + b"x" * 900)) == []
    with pytest.raises(TooLarge):
        list(cutter.feed(b"x" * 100))


def test_what_never_begins_a_block_is_not_mllp() -> None:
    with pytest.raises(NotMllp):
        blocks([b"GET / HTTP/1.1\r\n"] * 1000)


# -- segments -----------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4), min_size=1, max_size=6), st.data()
)
def test_a_segment_gives_back_any_part_of_what_was_added(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[bytes]], data: st.DataObject
) -> None:
    landing = Landing(tmp_path_factory.mktemp("landing"), {"key": b"k" * 32})
    name, writer = landing.segment("feed", "segment")
    whole = b""
    for group in groups:
        for one in group:
            assert writer.add(one) == len(whole)
            whole += one
        assert writer.commit() == len(whole)
        start = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(start + 1, len(whole)))
        assert b"".join(landing.read(name, start, stop - start)) == whole[start:stop]
    writer.close()
    assert b"".join(landing.read(name)) == whole


def _segment(folder: Path, *groups: bytes) -> tuple[Landing, str, Path]:
    landing = Landing(folder, {"key": b"k" * 32})
    name, writer = landing.segment("feed", "segment")
    for group in groups:
        writer.add(group)
        writer.commit()
    writer.close()
    return landing, name, folder / name


def test_a_torn_tail_is_not_read_and_bytes_that_the_ledger_knows_must_be_there(tmp_path: Path) -> None:
    landing, name, path = _segment(tmp_path, b"a" * 100, b"b" * 100)
    path.write_bytes(path.read_bytes()[:-5])
    assert b"".join(landing.read(name)) == b"a" * 100
    with pytest.raises(Permanent, match="damaged"):
        b"".join(landing.read(name, 0, 200))


def test_frames_that_were_swapped_or_changed_are_damage(tmp_path: Path) -> None:
    _, name, path = _segment(tmp_path, b"a" * 100, b"b" * 100)
    whole = path.read_bytes()
    head = whole.index(b"\n") + 1
    size = (len(whole) - head) // 2
    one, two = whole[head : head + size], whole[head + size :]
    for wrong in (whole[:head] + two + one, whole[: head + 30] + bytes([whole[head + 30] ^ 1]) + whole[head + 31 :]):
        path.write_bytes(wrong)
        with pytest.raises(Permanent, match="damaged"):
            b"".join(Landing(tmp_path, {"key": b"k" * 32}).read(name))
