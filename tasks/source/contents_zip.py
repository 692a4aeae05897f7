"""Zip archives (APPNOTE 6.3): their directory stands at the end, so that they are spooled first, encrypted."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tasks.source.contents_limits import Budget, Reader, bad

CHUNK = 1 << 20
_SUPPORTED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
_ENCRYPTED = 0x1
_LINK = 0o120000


def is_zip(head: bytes) -> bool:
    """Say whether bytes begin as a zip archive does, an empty one included."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def members(reader: Reader, budget: Budget, where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield name and bytes of each file, to be read before the next one is asked for.

    Raises `BadRecord`: `archive-corrupt`, `archive-encrypted`, `archive-unsupported`, `archive-special-member`,
    `archive-bomb` before the first byte where the directory announces one.
    """
    with _Spool() as spool:
        for chunk in reader.rest():
            spool.write(chunk)
        with _opened(spool, where) as archive:
            infos = [
                each for each in archive.infolist() if not (each.is_dir() or each.filename.startswith("__MACOSX/"))
            ]
            _check(infos, spool.size, budget, where)
            for info in infos:
                yield info.filename, _body(archive, info, where)


def _check(infos: list[zipfile.ZipInfo], size: int, budget: Budget, where: str) -> None:
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise bad("archive-encrypted", where)
    if any(info.compress_type not in _SUPPORTED for info in infos):
        raise bad("archive-unsupported", where)
    if any((info.external_attr >> 16) & 0o170000 == _LINK for info in infos):
        raise bad("archive-special-member", where)
    if sum(info.compress_size for info in infos) > size:
        # Members that share their bytes: a small file that unpacks to many large ones.
        raise bad("archive-bomb", where)
    budget.count(len(infos), where)
    budget.foresee(sum(info.file_size for info in infos), where)


@contextmanager
def _opened(spool: _Spool, where: str) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(spool)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OverflowError):
        raise bad("archive-corrupt", where) from None
    with archive:
        yield archive


def _body(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    left = info.file_size
    try:
        with archive.open(info) as member:
            while chunk := member.read(CHUNK):
                left -= len(chunk)
                yield chunk
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError):
        raise bad("archive-corrupt", where) from None
    if left:
        raise bad("archive-corrupt", where)


class _Spool:
    """A temporary file without a name whose bytes are encrypted with a key that only this process has.

    AES-256 in counter mode, so that any place can be read alone; the first megabytes stay in memory.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=32 * CHUNK)  # noqa: SIM115
        # An iteration that an error broke off may end as cyclic garbage: it is closed then too, before any finalizer.
        self._close = weakref.finalize(self, self._file.close)
        self._key, self._nonce = os.urandom(32), int.from_bytes(os.urandom(8), "big") << 64
        self._encrypt = self._cipher(0).encryptor()
        self._at = 0
        self.size = 0

    def _cipher(self, block: int) -> Cipher[modes.CTR]:
        counter = (self._nonce + block) % (1 << 128)
        return Cipher(algorithms.AES256(self._key), modes.CTR(counter.to_bytes(16, "big")))

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._close()

    def seekable(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        """Append; only before the first read."""
        self._file.write(self._encrypt.update(data))
        self.size += len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if start + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self._at + size)
        block, skip = divmod(self._at, 16)
        self._file.seek(block * 16)
        data = self._file.read(max(0, end - block * 16))
        plain = self._cipher(block).decryptor().update(data)[skip:]
        self._at += len(plain)
        return plain
