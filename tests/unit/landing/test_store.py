import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.errors import ConfigError, Permanent, Transient
from tasks.landing.store import CHUNK, TAG, Landing

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SEALED = CHUNK + TAG
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + 17]


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "landing", {"now": KEY})


def content(size: int) -> bytes:
    """Bytes in which every place differs from its neighbours in other chunks."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def kept(landing: Landing, size: int) -> str:
    return landing.write("a.feed", "one", [content(size)]).object


def read(landing: Landing, name: str, *where: int) -> bytes:
    return b"".join(landing.read(name, *where))


def sealed_chunks(path: Path) -> tuple[bytes, list[bytes]]:
    header, _, body = path.read_bytes().partition(b"\n")
    return header + b"\n", list(pieces(body, SEALED))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [1000, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK])
def test_what_was_written_is_read_whole_in_whatever_pieces_it_came(landing: Landing, size: int, step: int) -> None:
    said = landing.write("a.feed", "one", pieces(content(size), step))
    assert said.size == size
    assert read(landing, said.object) == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_any_part_is_read_alone(landing: Landing, size: int) -> None:
    name, whole = kept(landing, size), content(size)
    borders = {0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, size - 1, size, size + 1, size + 2 * CHUNK}
    for offset in sorted(border for border in borders if border >= 0):
        assert read(landing, name, offset) == whole[offset:]
        for length in (0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, size):
            assert read(landing, name, offset, length) == whole[offset : offset + length]


def test_the_digest_is_that_of_the_plain_bytes(landing: Landing) -> None:
    import hashlib

    data = content(3 * CHUNK)
    assert landing.write("a.feed", "one", pieces(data, 999)).sha256 == hashlib.sha256(data).digest()


def test_no_plain_byte_and_no_name_stands_on_the_disk(landing: Landing) -> None:
    secret = b"Zzyzx-family-name"
    landing.write("northside.hl7", "Zzyzx.hl7", [secret * 10_000])
    for path in landing.folder.rglob("*"):
        assert "Zzyzx" not in str(path)
        assert "northside" not in str(path)
        assert path.is_dir() or secret not in path.read_bytes()


def test_the_same_bytes_twice_look_different_on_the_disk(landing: Landing) -> None:
    one, two = (landing.write("a.feed", name, [content(100)]).object for name in ("one", "two"))
    bodies = {(landing.folder / name).read_bytes().partition(b"\n")[2] for name in (one, two)}
    assert len(bodies) == 2


def test_names_hang_on_feed_name_and_key(landing: Landing) -> None:
    other = Landing(landing.folder, {"now": OTHER_KEY})
    places = [
        (landing, "a.feed", "one"),
        (landing, "a.feed", "two"),
        (landing, "b.feed", "one"),
        (other, "a.feed", "one"),
    ]
    assert len({where.write(scope, name, [b"x"]).object for where, scope, name in places}) == 4
    assert landing.write("a.feed", "one", [b"x"]).object == landing.write("a.feed", "one", [b"y"]).object


def test_scope_and_name_cannot_be_shifted_into_each_other(landing: Landing) -> None:
    assert landing.write("a", "b.c", [b"x"]).object != landing.write("a.b", "c", [b"x"]).object


def test_writing_again_replaces_the_object_whole(landing: Landing) -> None:
    name = kept(landing, 3 * CHUNK)
    assert landing.write("a.feed", "one", [b"shorter"]).object == name
    assert read(landing, name) == b"shorter"


def test_files_are_their_owners_alone(landing: Landing) -> None:
    path = landing.folder / kept(landing, 10)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, path.parent.parent, landing.folder):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0, folder


@pytest.mark.parametrize("chunk", [0, 1, 2])
@pytest.mark.parametrize("place", [0, 100, SEALED - 1])
def test_a_flipped_bit_is_seen(landing: Landing, chunk: int, place: int) -> None:
    path = landing.folder / kept(landing, 3 * CHUNK)
    header, chunks = sealed_chunks(path)
    damaged = bytearray(chunks[chunk])
    damaged[place] ^= 1
    chunks[chunk] = bytes(damaged)
    path.write_bytes(header + b"".join(chunks))
    with pytest.raises(Permanent, match=f"damaged at chunk {chunk}"):
        read(landing, path.relative_to(landing.folder).as_posix())


def change(landing: Landing, size: int, how: str) -> str:
    path = landing.folder / kept(landing, size)
    header, chunks = sealed_chunks(path)
    other = sealed_chunks(landing.folder / landing.write("a.feed", "two", [content(size)]).object)[1]
    changed = {
        "swapped": [chunks[1], chunks[0], *chunks[2:]],
        "last chunk cut off": chunks[:-1],
        "all chunks cut off": [],
        "cut inside a chunk": [*chunks[:-1], chunks[-1][:-1]],
        "chunk repeated at the end": [*chunks, chunks[-1]],
        "first chunk repeated at the end": [*chunks, chunks[0]],
        "bytes appended": [*chunks, b"more"],
        "chunk left out": [chunks[0], *chunks[2:]],
        "chunk of another object": [other[0], *chunks[1:]],
        "last chunk of another object": [*chunks[:-1], other[-1]],
    }[how]
    path.write_bytes(header + b"".join(changed))
    return path.relative_to(landing.folder).as_posix()


@pytest.mark.parametrize("size", [3 * CHUNK, 3 * CHUNK + 5])
@pytest.mark.parametrize(
    "how",
    [
        "swapped",
        "last chunk cut off",
        "all chunks cut off",
        "cut inside a chunk",
        "chunk repeated at the end",
        "first chunk repeated at the end",
        "bytes appended",
        "chunk left out",
        "chunk of another object",
        "last chunk of another object",
    ],
)
def test_chunks_cannot_be_moved_cut_off_or_mixed(landing: Landing, size: int, how: str) -> None:
    name = change(landing, size, how)
    with pytest.raises(Permanent, match="damaged"):
        read(landing, name)


@pytest.mark.parametrize("how", ["last chunk cut off", "first chunk repeated at the end", "all chunks cut off"])
def test_an_object_that_lost_or_gained_its_end_gives_nothing_from_there(landing: Landing, how: str) -> None:
    name = change(landing, 3 * CHUNK, how)
    with pytest.raises(Permanent):
        read(landing, name, 2 * CHUNK, 10)


@pytest.mark.parametrize("header", [b"", b"\n", b"not json\n", b"[]\n", b"{}\n", b'{"key": "now", "wrapped": "?"}\n'])
def test_a_header_that_is_gone_is_told_in_one_line(landing: Landing, header: bytes) -> None:
    path = landing.folder / kept(landing, 10)
    path.write_bytes(header + sealed_chunks(path)[1][0])
    with pytest.raises(Permanent, match="header"):
        read(landing, path.relative_to(landing.folder).as_posix())


def test_a_header_with_another_word_in_it_opens_nothing(landing: Landing) -> None:
    path = landing.folder / kept(landing, 10)
    header, chunks = sealed_chunks(path)
    said = {**json.loads(header), "sluice": 2}
    path.write_bytes(json.dumps(said).encode() + b"\n" + b"".join(chunks))
    with pytest.raises(Permanent, match="damaged"):
        read(landing, path.relative_to(landing.folder).as_posix())


def test_an_older_key_still_opens_and_the_first_one_seals(tmp_path: Path) -> None:
    old = Landing(tmp_path, {"old": OTHER_KEY}).write("a.feed", "one", [b"then"]).object
    both = Landing(tmp_path, {"now": KEY, "old": OTHER_KEY})
    new = both.write("a.feed", "two", [b"now"]).object
    assert read(both, old) == b"then"
    assert read(Landing(tmp_path, {"now": KEY}), new) == b"now"


def test_a_key_that_is_missing_is_named(tmp_path: Path) -> None:
    old = Landing(tmp_path, {"old": OTHER_KEY}).write("a.feed", "one", [b"then"]).object
    with pytest.raises(ConfigError, match=r"key old wrapped .*add it to SLUICE_LANDING_KEY"):
        read(Landing(tmp_path, {"now": KEY}), old)


def test_another_key_under_the_same_id_is_told_from_damage(tmp_path: Path) -> None:
    old = Landing(tmp_path, {"now": OTHER_KEY}).write("a.feed", "one", [b"then"]).object
    with pytest.raises(ConfigError, match="key now is not the one"):
        read(Landing(tmp_path, {"now": KEY}), old)


def test_an_object_that_is_gone_is_told_in_one_line(landing: Landing) -> None:
    name = kept(landing, 10)
    landing.remove(name)
    landing.remove(name)
    with pytest.raises(Permanent, match=f"cannot be opened .errno {errno.ENOENT}"):
        read(landing, name)


def no_parts(landing: Landing) -> bool:
    return not [path for path in landing.folder.rglob("*") if path.name.endswith(".part")]


def test_a_partner_who_stops_in_the_middle_leaves_nothing_half_written(landing: Landing) -> None:
    def stops() -> Iterator[bytes]:
        yield content(3 * CHUNK)
        raise Transient("the partner hung up")

    with pytest.raises(Transient, match="hung up"):
        landing.write("a.feed", "one", stops())
    assert not [path for path in landing.folder.rglob("*") if path.is_file()]


def test_an_interrupted_rewrite_leaves_what_was_there(landing: Landing) -> None:
    def stops() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    name = kept(landing, CHUNK + 1)
    with pytest.raises(KeyboardInterrupt):
        landing.write("a.feed", "one", stops())
    assert read(landing, name) == content(CHUNK + 1)
    assert no_parts(landing)


def test_a_folder_that_is_a_file_is_transient_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "landing").write_text("")
    with pytest.raises(Transient, match=r"errno \d+.*nothing was acknowledged.*run again"):
        Landing(tmp_path / "landing", {"now": KEY}).write("a.feed", "one", [b"x"])


def test_a_full_disk_is_transient_and_leaves_nothing_half_written(landing: Landing) -> None:
    import resource
    import signal

    name = kept(landing, 10)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (CHUNK, before[1]))
    try:
        with pytest.raises(Transient, match=f"errno {errno.EFBIG}"):
            landing.write("a.feed", "one", [content(4 * CHUNK)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert read(landing, name) == content(10)
    assert no_parts(landing)


def test_an_object_is_on_the_disk_before_it_has_its_name(landing: Landing, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def named(path: Path, target: Path) -> Path:
        happened.append("name")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", named)
    kept(landing, 10)
    assert happened[: happened.index("name") + 2] == ["file", "name", "folder"]


def test_two_writers_of_one_object_leave_one_whole(landing: Landing) -> None:
    import threading

    sizes = [CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 3, 10]
    writers = [threading.Thread(target=landing.write, args=("a.feed", "one", pieces(content(n), 777))) for n in sizes]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    objects = [path for path in landing.folder.rglob("*") if path.is_file()]
    assert len(objects) == 1
    assert read(landing, objects[0].relative_to(landing.folder).as_posix()) in [content(size) for size in sizes]


@pytest.mark.parametrize("offset", [CHUNK - 10, CHUNK, 2 * CHUNK + 5])
def test_a_read_of_one_record_touches_its_chunks_alone(landing: Landing, offset: int) -> None:
    path = landing.folder / kept(landing, 4 * CHUNK)
    header, chunks = sealed_chunks(path)
    needed = range(offset // CHUNK, (offset + 19) // CHUNK + 1)
    spoiled = [chunk if number in needed else bytes(len(chunk)) for number, chunk in enumerate(chunks)]
    path.write_bytes(header + b"".join(spoiled))
    assert read(landing, path.relative_to(landing.folder).as_posix(), offset, 20) == content(4 * CHUNK)[offset:][:20]


def test_a_rewritten_object_is_blank_where_it_should_be_and_its_old_key_is_gone(landing: Landing) -> None:
    size = 3 * CHUNK + 17
    name, whole = kept(landing, size), content(size)
    path = landing.folder / name
    before = path.read_bytes()
    with path.open("rb") as old:
        said = landing.rewrite(name, [(10, 20), (CHUNK - 5, 2 * CHUNK + 5), (size - 1, 1 << 62)])
        assert old.readline(4096).strip(b"\0") != before.partition(b"\n")[0], "the old header can be read by nobody"
    expected = bytearray(whole)
    for start, end in ((10, 20), (CHUNK - 5, 2 * CHUNK + 5), (size - 1, size)):
        expected[start:end] = bytes(end - start)
    assert read(landing, name) == bytes(expected)
    assert said.size == size
    assert not list(landing.folder.rglob("*.part"))


def test_an_older_key_still_reads_and_a_rewrite_needs_it_no_more(landing: Landing) -> None:
    name = kept(landing, 100)
    rotated = Landing(landing.folder, {"new": OTHER_KEY, "now": KEY})
    assert rotated.key_of(name) == "now"
    assert read(rotated, name) == content(100)
    rotated.rewrite(name)
    alone = Landing(landing.folder, {"new": OTHER_KEY})
    assert alone.key_of(name) == "new"
    assert read(alone, name) == content(100)
    with pytest.raises(ConfigError):
        read(landing, name)


def test_a_segment_is_rewritten_as_far_as_it_counts(landing: Landing) -> None:
    name, writer = landing.segment("a.feed", "live")
    writer.add(b"acknowledged")
    size = writer.commit()
    writer.add(b"never acknowledged")
    writer.commit()
    writer.close()
    landing.rewrite(name, [(0, 2)], size)
    assert read(landing, name) == b"\0\0knowledged"
    assert read(landing, name, 4, 4) == b"owle"


@pytest.mark.parametrize("broken", [OSError(errno.ENOSPC, "full")])
def test_a_rewrite_that_breaks_off_leaves_the_object_as_it_was(
    landing: Landing, monkeypatch: pytest.MonkeyPatch, broken: OSError
) -> None:
    name = kept(landing, 100)

    def fail(_: int) -> None:
        raise broken

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", fail)
        with pytest.raises(Transient):
            landing.rewrite(name, [(0, 50)])
    assert read(landing, name) == content(100)
