"""Every source of files also takes files: whole, in place of an older one, without a trace of how they were written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources_rigs import DirectoryRig, S3Rig, SftpRig

from infra.dev.s3 import S3Server
from infra.dev.sftp import SftpServer
from tasks.errors import Permanent
from tasks.model import Offer
from tasks.source.memory import MemorySource, MemoryState, folder
from tasks.source.port import FileOptions, Ready

_numbers = itertools.count(1)


class Place:
    """Where receipts go, and a source that reads there what was written."""

    def __init__(self, writer, reader, path):
        self.writer, self.reader, self.path = writer, reader, path

    def content(self) -> dict[str, bytes]:
        return {offer.name: b"".join(self.reader.read(offer)) for offer in self.reader.poll(MemoryState())}


@pytest.fixture(params=["memory", "directory", "sftp", "s3"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path, sftp_server: SftpServer, s3_server: S3Server
) -> Iterator[Place]:
    name = f"put{next(_numbers)}"
    if request.param == "memory":
        folder(f"{name}/receipts")
        options = FileOptions(kind="memory", path=f"{name}/receipts", ready=Ready(stable_polls=1), match=("*", ".*"))
        yield Place(MemorySource(options, {}), MemorySource(options, {}), f"{name}/receipts")
        return
    if request.param == "directory":
        rig, path = DirectoryRig(tmp_path / name), f"{name}/in/receipts"
    elif request.param == "sftp":
        home = sftp_server.partner("northside") / name
        rig, path = SftpRig(home, sftp_server.connection("northside")), f"/{name}/in/receipts"
    else:
        rig, path = S3Rig(s3_server.client(), s3_server.connection(name), name), "outbound/in/receipts"
    writer, reader = rig.source(), rig.source(match=("in/receipts/*", "in/receipts/.*"))
    yield Place(writer, _Below(reader), path)
    rig.close()


class _Below:
    """A reader that speaks of files by their last name."""

    def __init__(self, source):
        self.source = source

    def poll(self, state):
        for offer in self.source.poll(state):
            self.full = {**getattr(self, "full", {}), offer.name.rpartition("/")[2]: offer}
            yield Offer(offer.name.rpartition("/")[2], offer.version)

    def read(self, offer):
        return self.source.read(self.full[offer.name])


def test_what_is_put_stands_there_whole_and_alone(place: Place):
    big = [bytes([number % 251]) * 70_000 for number in range(150)]
    place.writer.put(f"{place.path}/a.json", [b"{", b"}"])
    place.writer.put(f"{place.path}/b.txt", big)
    place.writer.put(f"{place.path}/empty", [])
    assert place.content() == {"a.json": b"{}", "b.txt": b"".join(big), "empty": b""}


def test_what_is_put_again_replaces_what_was_there(place: Place):
    place.writer.put(f"{place.path}/a.json", [b"a longer first version"])
    place.writer.put(f"{place.path}/a.json", [b"second"])
    assert place.content() == {"a.json": b"second"}


def test_what_a_crash_left_half_written_is_never_seen_and_made_good(place: Place):
    def broken():
        yield b"half"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.writer.put(f"{place.path}/a.json", broken())
    assert "a.json" not in place.content()
    place.writer.put(f"{place.path}/a.json", [b"whole"])
    assert place.content() == {"a.json": b"whole"}


@pytest.mark.parametrize("path", ["../a", "in/../../a", "in//a", ""])
def test_a_path_that_leads_out_is_refused(place: Place, path: str):
    with pytest.raises(Permanent):
        place.writer.put(path, [b"x"])
