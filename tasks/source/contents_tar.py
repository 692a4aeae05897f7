"""Tar archives as a stream: ustar, GNU long names and pax headers (POSIX.1-2017, pax interchange format).

The standard library's reader stops without a word at a damaged header or where the end is missing, and the files
behind it would be lost; this one does not.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from tasks.source.contents_limits import Reader, bad

BLOCK = tarfile.BLOCKSIZE
_ZERO = bytes(BLOCK)
_HEADER_LIMIT = 1 << 20


def is_tar(head: bytes) -> bool:
    """Say whether the first block is a tar header: its checksum is right."""
    if len(head) < BLOCK or head[:BLOCK] == _ZERO:
        return False
    try:
        tarfile.TarInfo.frombuf(head[:BLOCK], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def members(reader: Reader, where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and bytes of each regular file, to be read before the next one is asked for.

    Raises `BadRecord`: `archive-corrupt` for damage and a missing end, `archive-special-member` for links,
    devices and sparse files.
    """
    told: dict[str, str] = {}
    while (block := reader.read(BLOCK)) != _ZERO:
        info = _header(block, where)
        if info.type in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
            told |= _extended(info, _padded(reader, info.size, where), where)
            continue
        name, size = told.get("path", info.name), _size(told.get("size"), info.size, where)
        special = any(key.startswith("GNU.sparse") for key in told)
        told = {}
        if info.type == tarfile.DIRTYPE:
            continue
        if special or info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
            raise bad("archive-special-member", where)
        body = _body(reader, size, where)
        yield name, body
        for _ in body:
            pass
    if any(piece.strip(b"\0") for piece in reader.rest()):
        raise bad("archive-corrupt", where)


def _header(block: bytes, where: str) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        raise bad("archive-corrupt", where) from None


def _body(reader: Reader, size: int, where: str) -> Iterator[bytes]:
    left = size
    for piece in reader.pieces(size):
        left -= len(piece)
        yield piece
    padding = -size % BLOCK
    if left or len(reader.read(padding)) != padding:
        raise bad("archive-corrupt", where)


def _padded(reader: Reader, size: int, where: str) -> bytes:
    if size > _HEADER_LIMIT:
        raise bad("archive-corrupt", where)
    return b"".join(_body(reader, size, where))


def _extended(info: tarfile.TarInfo, data: bytes, where: str) -> dict[str, str]:
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    return _pax(data, where) if info.type == tarfile.XHDTYPE else {}


def _pax(data: bytes, where: str) -> dict[str, str]:
    told = {}
    data = data.rstrip(b"\0")
    while data:
        length, _, _ = data.partition(b" ")
        end = int(length) if length.isdigit() else 0
        record = data[len(length) + 1 : end]
        if not record.endswith(b"\n"):
            raise bad("archive-corrupt", where)
        key, _, value = record[:-1].partition(b"=")
        told[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[end:]
    return told


def _size(told: str | None, size: int, where: str) -> int:
    if told is not None and not told.isdigit():
        raise bad("archive-corrupt", where)
    found = size if told is None else int(told)
    if found < 0:
        raise bad("archive-corrupt", where)
    return found
