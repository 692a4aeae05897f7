"""Segments: files that listeners append to, with the same seal as landing's other objects.

After the header line come frames: four bytes of length and so many plain bytes, sealed under the offset at which they
begin. An offset counts plain bytes, so that a record's place is (segment, offset). A segment is only ever appended to
by the process that made it, because an offset may be sealed once; what a crash left behind the size that the ledger
knows was never acknowledged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from tasks.errors import Transient
from tasks.landing.seal import APPENDED, TAG, Seal, damaged, new_seal, sync_folder

FRAME = 64 * 1024
"""Plain bytes of the longest frame: what is decrypted to read one record."""

_LENGTH = 4


class SegmentWriter:
    """One open segment; `size` counts the plain bytes that are on the disk."""

    def __init__(self, path: Path, key_id: str, wrapper: bytes) -> None:
        self.path = path
        self.size = 0
        self._waiting = bytearray()
        self._seal = new_seal(key_id, wrapper, segment=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            _write(self._file, self._seal.header)
            sync_folder(path.parent)
        except OSError as error:
            raise _refused(error) from None

    def add(self, data: bytes) -> int:
        """Take bytes for the next commit; return the offset at which they will stand."""
        offset = self.size + len(self._waiting)
        self._waiting += data
        return offset

    def commit(self) -> int:
        """Put what was added on the disk; return the segment's size.

        Raises `Transient` where the disk does not take it: then the segment is given up, it is not appended to again.
        """
        at, plain = self.size, bytes(self._waiting)
        self._waiting.clear()
        pieces = bytearray()
        for start in range(0, len(plain), FRAME):
            piece = plain[start : start + FRAME]
            pieces += len(piece).to_bytes(_LENGTH, "big") + self._seal.close(at + start, APPENDED, piece)
        try:
            _write(self._file, pieces)
            os.fdatasync(self._file)
        except OSError as error:
            raise _refused(error) from None
        self.size = at + len(plain)
        return self.size

    def close(self) -> None:
        """Close the file; what was added and not committed is gone."""
        with suppress(OSError):
            os.close(self._file)
            self._file = -1


class SegmentReader:
    """Reads frames of one segment; remembers where the last one that was read begins, to go on from there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._offset = 0
        self._place = 0

    def read(self, file: BinaryIO, seal: Seal, offset: int, length: int | None) -> Iterator[bytes]:
        """Yield the plain bytes from `offset` on: `length` of them, or up to the last whole frame.

        Raises `Permanent` where a frame is damaged, or where there are fewer bytes than `length`.
        """
        left = length
        for at, plain in self._frames(file, seal, offset):
            piece = plain[max(offset - at, 0) :]
            piece = piece if left is None else piece[:left]
            if piece:
                yield piece
            if left is not None:
                left -= len(piece)
                if left <= 0:
                    return
        if left:
            raise damaged(self.name, "its end")

    def _frames(self, file: BinaryIO, seal: Seal, offset: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, plain bytes) of the frames that end after `offset`; those before are passed over unread."""
        at, place = (self._offset, self._place) if 0 < self._offset <= offset else (0, len(seal.header))
        while True:
            file.seek(place)
            head = file.read(_LENGTH)
            size = int.from_bytes(head, "big")
            if len(head) < _LENGTH or size > FRAME:
                return
            following = place + _LENGTH + size + TAG
            if at + size > offset:
                sealed = file.read(size + TAG)
                if len(sealed) < size + TAG:
                    return
                self._offset, self._place = at, place
                yield at, self._opened(seal, at, sealed)
            at, place = at + size, following

    def _opened(self, seal: Seal, at: int, sealed: bytes) -> bytes:
        try:
            return seal.open(at, APPENDED, sealed)
        except InvalidTag:
            raise damaged(self.name, f"offset {at}") from None


def _write(file: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _refused(error: OSError) -> Transient:
    return Transient(
        f"landing: the disk did not take the segment (errno {error.errno}); nothing of it was acknowledged, "
        f"free space or mend the folder"
    )
