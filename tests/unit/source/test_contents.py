"""What is inside a delivery: layers are taken off as streams, and what is wrong with them is found."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import os
import struct
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import BadRecord
from tasks.source.contents import Limits, unwrap

LIMITS = Limits()
FILES = {"a.hl7": b"MSH|^~\\&|a\r", "Größe.csv": b"id;name\n" * 1000, "below/c.json": b"{}", "empty": b""}


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def opened(name: str, data: bytes, limits: Limits = LIMITS, size: int = 4096) -> dict[str, bytes]:
    return {inner: b"".join(body) for inner, body in unwrap(name, cut(data, size), limits)}


def codes(data: bytes, limits: Limits = LIMITS) -> list[tuple[str, str]]:
    with pytest.raises(BadRecord) as raised:
        opened("in", data, limits)
    assert all(finding.severity == "error" for finding in raised.value.findings)
    return [(finding.code, finding.location) for finding in raised.value.findings]


@pytest.mark.parametrize("size", [1, 7, 512, 1 << 20])
@pytest.mark.parametrize(
    "pack",
    [
        zipped,
        lambda files: zipped(files, zipfile.ZIP_STORED),
        lambda files: zipped(files, zipfile.ZIP_BZIP2),
        lambda files: zipped(files, zipfile.ZIP_LZMA),
        tarred,
        lambda files: tarred(files, tarfile.GNU_FORMAT),
        lambda files: tarred(files, tarfile.USTAR_FORMAT),
    ],
)
def test_every_file_of_an_archive_is_yielded_however_its_bytes_come(
    pack: Callable[[dict[str, bytes]], bytes], size: int
) -> None:
    assert opened("day", pack(FILES), size=size) == {f"day/{name}": data for name, data in FILES.items()}


def test_a_plain_file_is_yielded_as_it_is() -> None:
    assert opened("a.hl7", b"MSH|") == {"a.hl7": b"MSH|"}
    assert opened("empty", b"") == {"empty": b""}


def test_gzip_is_taken_off_by_its_bytes_whatever_the_name_says() -> None:
    assert opened("a.csv.gz", gzip.compress(b"x")) == {"a.csv": b"x"}
    assert opened("a.csv", gzip.compress(b"x")) == {"a.csv": b"x"}
    assert opened("a.csv.gz", b"x") == {"a.csv.gz": b"x"}


@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_a_gzip_file_of_several_members_and_padding_is_read_to_its_end(size: int) -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two") + bytes(100)
    assert opened("a.gz", data, size=size) == {"a": b"onetwo"}


def test_layers_within_layers_are_all_taken_off() -> None:
    inner = tarred({"x.csv.gz": gzip.compress(b"deep")})
    assert opened("d.zip", zipped({"t.tgz": gzip.compress(inner), "y": b"z"})) == {
        "d.zip/t.tar/x.csv": b"deep",
        "d.zip/y": b"z",
    }


def test_a_member_that_nobody_reads_does_not_hide_the_next() -> None:
    names = [name for name, _ in unwrap("t", cut(gzip.compress(tarred(FILES)), 100), LIMITS)]
    assert names == [f"t/{name}" for name in FILES]


def test_a_long_name_and_a_dot_before_it_are_understood() -> None:
    long = "folder/" * 30 + "größe.csv"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        assert opened("t", tarred({f"./{long}": b"x"}, form)) == {f"t/{long}": b"x"}


def test_what_macs_add_to_a_zip_is_no_delivery() -> None:
    assert opened("z", zipped({"a": b"x", "__MACOSX/._a": b"junk"})) == {"z/a": b"x"}


def test_a_large_archive_streams() -> None:
    data = os.urandom(1 << 20) * 64
    packed = gzip.compress(tarred({"big": data}), 1)
    tracemalloc.start()
    total = sum(len(piece) for _, body in unwrap("t", cut(packed, 1 << 16), LIMITS) for piece in body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == len(data)
    assert peak < 12 << 20


def test_a_gzip_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    sizes: list[int] = []
    with pytest.raises(BadRecord, match="archive-bomb"):
        sizes.extend(len(piece) for _, body in unwrap("b", cut(bomb, 1 << 12), LIMITS) for piece in body)
    assert sum(sizes) < 20 << 20


def test_a_gzip_bomb_within_a_gzip_is_refused() -> None:
    assert codes(gzip.compress(gzip.compress(bytes(200 << 20)))) == [("archive-bomb", "archive")]


def test_a_zip_bomb_is_refused_by_its_directory() -> None:
    bomb = zipped({"a": bytes(200 << 20)})
    assert codes(bomb) == [("archive-bomb", "archive")]


def test_members_that_share_their_bytes_are_refused() -> None:
    data = bytearray(zipped({"aa": os.urandom(10_000), "bb": b""}))
    directory = data.rindex(b"PK\x01\x02")
    struct.pack_into("<LL", data, directory + 20, 10_000, 10_000)
    struct.pack_into("<L", data, directory + 42, 0)
    assert codes(bytes(data)) == [("archive-bomb", "archive")]


def test_more_than_the_size_the_members_or_the_depth_allowed_is_refused() -> None:
    many = {str(n): b"x" for n in range(30)}
    assert codes(zipped(many), Limits(members=29)) == [("archive-too-many-members", "archive")]
    assert codes(tarred(many), Limits(members=29)) == [("archive-too-many-members", "member[30]")]
    assert codes(tarred({"a": b"x" * 101}), Limits(size=100)) == [("archive-bomb", "member[1]")]
    assert codes(gzip.compress(b"x" * 101), Limits(size=100)) == [("archive-bomb", "archive")]
    deep = b"x"
    for _ in range(3):
        deep = gzip.compress(deep)
    assert opened("d", deep, Limits(depth=3)) == {"d": b"x"}
    assert codes(deep, Limits(depth=2)) == [("archive-too-deep", "archive")]
    assert codes(zipped({"a": zipped({"b": gzip.compress(b"x")})}), Limits(depth=2)) == [
        ("archive-too-deep", "member[1]/member[1]")
    ]


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "..\\a", "C:\\a", "C:/a", "a//b"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_members_name_that_leads_out_is_refused(pack: Callable[[dict[str, bytes]], bytes], name: str) -> None:
    assert codes(pack({"good": b"", name: b"x"})) == [("archive-path-traversal", "member[2]")]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE]
)
def test_links_and_special_files_in_a_tar_are_refused(kind: bytes) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    assert codes(out.getvalue()) == [("archive-special-member", "archive")]


def test_a_link_in_a_zip_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("a")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    assert codes(out.getvalue()) == [("archive-special-member", "archive")]


def test_an_encrypted_zip_is_refused_as_such() -> None:
    data = bytearray(zipped({"a": b"secret"}))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + at] |= 1
    assert codes(bytes(data)) == [("archive-encrypted", "archive")]


@pytest.mark.parametrize(
    "head", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x00", b"\xfd7zXZ\0", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd"]
)
def test_archives_of_other_kinds_are_refused_as_such(head: bytes) -> None:
    assert codes(head + bytes(100)) == [("archive-unsupported", "archive")]


@pytest.mark.parametrize(
    "pack", [zipped, tarred, lambda files: gzip.compress(tarred(files)), lambda files: gzip.compress(files["x"])]
)
def test_an_archive_cut_off_anywhere_is_found(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    whole = pack({"x": os.urandom(3000), "y": os.urandom(2000)})
    useful = len(whole.rstrip(b"\0")) + 1
    for length in range(600, useful - 1, 97):
        assert codes(whole[:length])[0][0] == "archive-corrupt", length


def test_a_tar_cut_off_between_two_members_is_found() -> None:
    whole = tarred({"x": b"x" * 512, "y": b"y" * 512}, tarfile.USTAR_FORMAT)
    assert codes(whole[:1024]) == [("archive-corrupt", "archive")]


def test_a_damaged_header_does_not_hide_the_members_behind_it() -> None:
    data = bytearray(tarred({"x": b"x" * 512, "y": b"y" * 512}, tarfile.USTAR_FORMAT))
    data[1024 + 150] ^= 1
    assert codes(bytes(data)) == [("archive-corrupt", "archive")]
    data[1024 : 1024 + 512] = bytes(512)
    assert codes(bytes(data)) == [("archive-corrupt", "archive")]


@pytest.mark.parametrize("pack", [zipped, lambda files: gzip.compress(files["x"])])
def test_a_changed_byte_in_packed_data_is_found(pack: Callable[[dict[str, bytes]], bytes]) -> None:
    data = bytearray(pack({"x": os.urandom(3000)}))
    data[1500] ^= 1
    assert codes(bytes(data))[0][0] == "archive-corrupt"


def test_junk_behind_a_gzip_member_is_found() -> None:
    assert codes(gzip.compress(b"x") + b"junk") == [("archive-corrupt", "archive")]
    assert codes(gzip.compress(b"x") + bytes(9) + b"junk") == [("archive-corrupt", "archive")]


def test_no_name_of_a_member_is_in_an_error() -> None:
    with pytest.raises(BadRecord) as raised:
        opened("MARKER.zip", zipped({"MARKER/../../MARKER": b"MARKER"}))
    assert "MARKER" not in str(raised.value)


def test_a_large_zip_leaves_no_plaintext_in_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    written: list[bytes] = []
    marker, filling = b"MARKER-OF-A-PATIENT", os.urandom(40 << 20)
    for _, body in unwrap("z", cut(zipped({"a": marker * 9 + filling}, zipfile.ZIP_STORED), 1 << 20), LIMITS):
        written += [each.read_bytes() for each in Path("/proc/self/fd").iterdir() if _is_in(each, tmp_path)]
        assert sum(map(len, body)) == len(filling) + 9 * len(marker)
    assert [len(each) > 40 << 20 for each in written] == [True]
    assert marker not in written[0]
    assert list(tmp_path.iterdir()) == []


def test_a_zip_that_an_error_broke_off_is_closed_in_whatever_order_the_collector_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    broken = bytearray(zipped({"a": b"hello" * 100, "b": b"x"}, zipfile.ZIP_STORED))
    broken[60] ^= 0xFF

    def break_off() -> BadRecord:
        try:
            opened("z", bytes(broken))
        except BadRecord as error:
            kept = error  # in a cycle with its own traceback
            gc.collect()  # while the error lives: it reorders what the next collection takes apart
            return kept
        raise AssertionError("a broken archive was read")

    assert break_off().findings
    gc.collect()
    assert said == []


def _is_in(descriptor: Path, folder: Path) -> bool:
    return descriptor.is_symlink() and str(descriptor.readlink()).startswith(str(folder))


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"\x1f\x8b\x08", b"PK\x03\x04", b"PK\x05\x06", tarred({"a": b"x"})[:600]]),
)
def test_any_bytes_are_yielded_or_refused_and_nothing_else_is_raised(data: bytes, head: bytes) -> None:
    with contextlib.suppress(BadRecord):
        names = list(opened("x", head + data, size=100))
        assert all(name.startswith("x") for name in names)
