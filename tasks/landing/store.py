"""Landing: a delivery's bytes, encrypted, addressed by a keyed hash, kept before anything is acknowledged.

An object is a header line and chunks. The header (JSON) names the key that wraps the object's own key; every chunk of
64 KiB is sealed by AES-256-GCM with its number and a last-chunk mark in the nonce and the header as associated data.
So a large object streams both ways, one record can be read alone, and chunks cannot be swapped, cut off or mixed.
Listeners append to segments (`segment.py`), which are read in the same way.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag

from tasks.failpoints import reached
from tasks.landing.objects import FolderObjects, Objects, Writer
from tasks.landing.seal import LAST, MIDDLE, TAG, Seal, damaged, new_seal, read_seal
from tasks.landing.segment import SegmentReader, SegmentWriter

CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Landed:
    """What landing says of an object: its name, the plain bytes' count and their sha256."""

    object: str
    size: int
    sha256: bytes


class Landing:
    """Encrypted objects in a folder, or in `objects` with the listeners' segments in the folder.

    Of the keys by id the first one encrypts, all of them decrypt.
    """

    def __init__(self, folder: Path, keys: Mapping[str, bytes], objects: Objects | None = None) -> None:
        self.folder = folder
        self.objects = objects or FolderObjects(folder)
        self.keys = keys
        self.key_id = next(iter(keys))
        self._segments: dict[str, SegmentReader] = {}

    def write(self, scope: str, name: str, chunks: Iterable[bytes]) -> Landed:
        """Keep `chunks` under a keyed hash of scope (the feed) and name; return after they are kept durably.

        Raises `Transient` where disk or bucket do not take them; nothing half-written is ever visible.
        """
        target = self._address(scope, name)
        digest, size = hashlib.sha256(), 0
        with self.objects.create(target) as file:
            sealer = _Sealer(file, self.key_id, self.keys[self.key_id])
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                sealer.add(chunk)
                reached("downloading")
            sealer.end()
        reached("fsynced")
        return Landed(target, size, digest.digest())

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes from `offset` on, `length` of them where given; raises `Permanent` where damaged."""
        if length is not None and length <= 0:
            return
        with self._open(name) as file:
            seal = read_seal(file, name, self.keys)
            if seal.said.get("segment"):
                reader = self._segments.setdefault(name, SegmentReader(name))
                yield from reader.read(file, seal, offset, length)
            else:
                yield from _read_chunks(file, seal, name, offset, length)

    def segment(self, scope: str, name: str) -> tuple[str, SegmentWriter]:
        """Begin a segment to append to; return the object's name and its writer. Raises `Transient`."""
        target = self._address(scope, name)
        return target, SegmentWriter(self.folder / target, self.key_id, self.keys[self.key_id])

    def remove(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""
        self.objects.remove(name)

    def forget(self, scope: str, name: str) -> None:
        """Remove what was written under scope and name; nothing happens where there is none."""
        self.remove(self._address(scope, name))

    def _address(self, scope: str, name: str) -> str:
        key = self.keys[self.key_id]
        folder = hmac.new(key, b"scope:" + scope.encode(), hashlib.sha256).hexdigest()[:16]
        digest = hmac.new(key, json.dumps([scope, name]).encode(), hashlib.sha256).hexdigest()
        return f"{folder}/{digest[:2]}/{digest}"

    def _open(self, name: str) -> BinaryIO:
        """A segment lies in the folder of the listener that wrote it, a whole object where objects are kept."""
        return (self.folder / name).open("rb") if (self.folder / name).is_file() else self.objects.open(name)


def _read_chunks(file: BinaryIO, seal: Seal, name: str, offset: int, length: int | None) -> Iterator[bytes]:
    start = len(seal.header)
    chunks = max(1, -(-(file.seek(0, os.SEEK_END) - start) // (CHUNK + TAG)))
    # beyond the end the last chunk is opened all the same: an object that was cut off must not look as if read
    number = min(offset // CHUNK, chunks - 1)
    skip = offset - number * CHUNK
    left = length
    file.seek(start + number * (CHUNK + TAG))
    while number < chunks and (left is None or left > 0):
        kind = LAST if number == chunks - 1 else MIDDLE
        try:
            plain = seal.open(number, kind, file.read(CHUNK + TAG))
        except InvalidTag:
            raise damaged(name, f"chunk {number}") from None
        piece = plain[skip:] if left is None else plain[skip : skip + left]
        skip = 0
        number += 1
        if left is not None:
            left -= len(piece)
        if piece:
            yield piece


class _Sealer:
    def __init__(self, file: Writer, key_id: str, wrapper: bytes) -> None:
        self.seal = new_seal(key_id, wrapper)
        self.file, self.number, self.buffer = file, 0, bytearray()
        file.write(self.seal.header)

    def add(self, data: bytes) -> None:
        self.buffer += data
        # one chunk always stays behind: only the end knows which chunk is the last
        while len(self.buffer) > CHUNK:
            self._seal(MIDDLE, bytes(self.buffer[:CHUNK]))
            del self.buffer[:CHUNK]

    def end(self) -> None:
        self._seal(LAST, bytes(self.buffer))

    def _seal(self, kind: bytes, plain: bytes) -> None:
        self.file.write(self.seal.close(self.number, kind, plain))
        self.number += 1
