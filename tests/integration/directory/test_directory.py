"""The directory source on a real file system, and what is put into drop folders."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import ConfigError, Permanent, SluiceError, Transient
from tasks.model import Offer
from tasks.source.directory import DirectorySource
from tasks.source.memory import MemoryState
from tasks.source.port import FileOptions, Ready


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    made = tmp_path / "root" / "drop"
    made.mkdir(parents=True)
    return made


def build(drop: Path, **options: Any) -> DirectorySource:
    values = {"kind": "directory", "path": "drop", "ready": Ready(stable_polls=1), **options}
    return DirectorySource(FileOptions.model_validate(values), {"root": str(drop.parent)})


def land(source: DirectorySource, state: MemoryState) -> dict[str, bytes]:
    taken = {}
    for offer in source.poll(state):
        taken[offer.name] = b"".join(source.read(offer))
        state.land(offer)
        source.finish(offer, state)
    source.done(state)
    return taken


def refusal(make: Callable[[], object], kind: type[SluiceError]) -> str:
    with pytest.raises(kind) as raised:
        make()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_links_pipes_sockets_and_folders_are_no_deliveries(drop: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    (drop / "regular").write_bytes(b"x")
    (drop / "link").symlink_to(tmp_path / "secret")
    (drop / "linked-folder").symlink_to(tmp_path)
    os.mkfifo(drop / "pipe")
    with socket.socket(socket.AF_UNIX) as special:
        special.bind(os.path.relpath(drop / "s"))
        assert land(build(drop, match="**/*"), MemoryState()) == {"regular": b"x"}


@pytest.mark.parametrize("how", ["link", "pipe", "folder"])
def test_a_file_that_becomes_something_else_after_the_poll_is_not_read(drop: Path, tmp_path: Path, how: str) -> None:
    secret, path = tmp_path / "secret", drop / "a"
    for each in (secret, path):
        each.write_bytes(b"x")
        os.utime(each, (1, 1))
    source = build(drop)
    (offer,) = source.poll(MemoryState())
    path.unlink()
    {"link": lambda: path.symlink_to(secret), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[how]()
    with pytest.raises((Permanent, Transient)):
        b"".join(source.read(offer))


def test_a_folder_that_becomes_a_link_after_the_poll_is_not_followed(drop: Path, tmp_path: Path) -> None:
    (drop / "in").mkdir()
    (drop / "in" / "a").write_bytes(b"x")
    shutil.copytree(drop / "in", tmp_path / "elsewhere")
    source = build(drop, match="**/*", after="delete")
    (offer,) = source.poll(MemoryState())
    shutil.rmtree(drop / "in")
    (drop / "in").symlink_to(tmp_path / "elsewhere")
    assert "through a link" in refusal(lambda: b"".join(source.read(offer)), Permanent)
    assert "through a link" in refusal(lambda: source.finish(offer, MemoryState()), Permanent)
    assert (tmp_path / "elsewhere" / "a").exists()


def test_a_path_that_leads_out_of_the_root_is_refused(drop: Path, tmp_path: Path) -> None:
    assert "`..`" in refusal(lambda: build(drop, path="../.."), ConfigError)
    (drop.parent / "way-out").symlink_to(tmp_path)
    assert "through a link" in refusal(lambda: land(build(drop, path="way-out"), MemoryState()), Permanent)


def test_a_path_that_is_absent_or_a_file_is_said_in_one_line(drop: Path) -> None:
    (drop / "file").write_bytes(b"")
    assert "does not exist" in refusal(lambda: land(build(drop, path="nowhere"), MemoryState()), Permanent)
    assert "no folder" in refusal(lambda: land(build(drop, path="drop/file"), MemoryState()), Permanent)
    assert "`root`" in refusal(lambda: DirectorySource(FileOptions(kind="directory"), {}), ConfigError)


def test_the_root_itself_may_be_a_link_for_that_is_how_mounts_are_named(drop: Path, tmp_path: Path) -> None:
    (drop / "a").write_bytes(b"x")
    (tmp_path / "mounted").symlink_to(drop.parent)
    source = DirectorySource(
        FileOptions(kind="directory", path="drop", ready=Ready(stable_polls=1)), {"root": str(tmp_path / "mounted")}
    )
    assert land(source, MemoryState()) == {"a": b"x"}


def test_a_name_that_is_not_utf_8_is_taken_and_archived_under_its_own_bytes(drop: Path) -> None:
    raw = "Größe.hl7".encode("cp1252")
    (drop / os.fsdecode(raw)).write_bytes(b"x")
    assert land(build(drop, after="archive"), MemoryState()) == {"Größe.hl7": b"x"}
    assert [os.fsencode(path.name) for path in (drop / "archive").iterdir()] == [raw]


def test_a_file_that_grows_while_it_is_read_is_transient(drop: Path) -> None:
    path = drop / "a"
    path.write_bytes(b"x" * 3_000_000)
    source = build(drop)
    (offer,) = source.poll(MemoryState())
    chunks = source.read(offer)
    next(chunks)
    with path.open("ab") as more:
        more.write(b"y")
    with pytest.raises(Transient):
        b"".join(chunks)


def test_an_archive_that_a_crash_left_half_done_is_ended_and_not_doubled(drop: Path) -> None:
    (drop / "a").write_bytes(b"x")
    (drop / "archive").mkdir()
    os.link(drop / "a", drop / "archive" / "a")
    assert land(build(drop, after="archive"), MemoryState()) == {"a": b"x"}
    assert [path.name for path in (drop / "archive").iterdir()] == ["a"]
    assert not (drop / "a").exists()


def test_where_hard_links_do_not_exist_archiving_renames_and_still_keeps_what_is_there(
    drop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, "")

    monkeypatch.setattr(os, "link", no_links)
    source, state = build(drop, after="archive"), MemoryState()
    for data in (b"1", b"22", b"333"):
        (drop / "a").write_bytes(data)
        assert land(source, state) == {"a": data}
    assert sorted(path.read_bytes() for path in (drop / "archive").iterdir()) == [b"1", b"22", b"333"]


def test_a_file_where_the_archive_should_be_is_said_and_nothing_is_lost(drop: Path) -> None:
    (drop / "archive").write_bytes(b"")
    (drop / "a").write_bytes(b"x")
    refusal(lambda: land(build(drop, match="a", after="archive"), MemoryState()), Permanent)
    assert (drop / "a").read_bytes() == b"x"


def test_no_descriptor_is_left_open(drop: Path) -> None:
    for number in range(20):
        (drop / f"{number}").write_bytes(b"x" * 2_000_000)
    before = len(list(Path("/proc/self/fd").iterdir()))
    source = build(drop)
    for offer in source.poll(MemoryState()):
        next(source.read(offer))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_names_that_lead_out_are_not_touched(drop: Path) -> None:
    (drop.parent / "a").write_bytes(b"x")
    source = build(drop, after="delete")
    for name in ("../a", "x/../../a"):
        offer = Offer(name, "1-1", 1)
        assert "leads out" in refusal(lambda offer=offer: b"".join(source.read(offer)), Permanent)
        assert "leads out" in refusal(lambda offer=offer: source.finish(offer, MemoryState()), Permanent)
    assert (drop.parent / "a").exists()
