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
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        with self.objects.create(target) as file:
            landed = self._seal(target, file, chunks)
        reached("fsynced")
        return landed

    def rewrite(self, name: str, blank: Sequence[tuple[int, int]] = (), size: int | None = None) -> Landed:
        """Seal an object anew under a key of its own, wrapped by today's; the old one can be read by nobody then.

        `blank` are (start, end) of plain bytes that become zeros, in order; `size` is how many bytes of a segment
        count. Never call it while a listener still appends. Raises `Transient` and `Permanent` as `write` and `read`.
        """
        with self._place(name).replace(name) as file:
            return self._seal(name, file, blanked(self.read(name, 0, size), blank))

    def key_of(self, name: str) -> str:
        """Return the id of the key that wraps an object's own; raises `Permanent`, `ConfigError` as `read` does."""
        with self._open(name) as file:
            return str(read_seal(file, name, self.keys).said["key"])

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

    def _seal(self, name: str, file: Writer, chunks: Iterable[bytes]) -> Landed:
        digest, size = hashlib.sha256(), 0
        sealer = _Sealer(file, self.key_id, self.keys[self.key_id])
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            sealer.add(chunk)
            reached("downloading")
        sealer.end()
        return Landed(name, size, digest.digest())

    def _open(self, name: str) -> BinaryIO:
        return self._place(name).open(name)

    def _place(self, name: str) -> Objects:
        """A segment lies in the folder of the listener that wrote it, a whole object where objects are kept."""
        return FolderObjects(self.folder) if (self.folder / name).is_file() else self.objects


def blanked(chunks: Iterable[bytes], blank: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield `chunks` with zeros from each start to each end of `blank`, which counts bytes from the first chunk on."""
    at = 0
    for chunk in chunks:
        piece = bytearray(chunk)
        for start, end in blank:
            low, high = max(start - at, 0), min(end - at, len(piece))
            if low < high:
                piece[low:high] = bytes(high - low)
        at += len(chunk)
        yield bytes(piece)


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
