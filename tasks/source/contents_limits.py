"""How much an archive may hold, and a stream of bytes that archives are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from tasks.errors import BadRecord
from tasks.model import Finding

FLOOR = 16 * 1024 * 1024
"""Bytes of output below which no ratio is judged: small files of blanks shrink well."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused as a bomb: sizes in bytes, `ratio` of all that was unpacked to what was delivered."""

    ratio: int = 200
    size: int = 256 * 1024**3
    depth: int = 4
    members: int = 100_000
    pgp: int = 2 * 1024**3


class Budget:
    """Counts, over all layers of one delivery, what came in and what was unpacked of it."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._delivered = self._unpacked = self._members = 0

    def delivered(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass on the delivery's own bytes, counted."""
        for chunk in chunks:
            self._delivered += len(chunk)
            yield chunk

    def unpacked(self, size: int, where: str) -> None:
        """Count bytes that a layer unpacked; raises `BadRecord` where they are more than the limits allow."""
        self._unpacked += size
        self.foresee(0, where)

    def foresee(self, size: int, where: str) -> None:
        """Refuse beforehand what announces to unpack `size` bytes more than is allowed."""
        total = self._unpacked + size
        if total > self.limits.size or total > FLOOR + self.limits.ratio * self._delivered:
            raise bad("archive-bomb", where)

    def member(self, where: str) -> None:
        """Count one member."""
        self._members += 1
        self.count(0, where)

    def count(self, more: int, where: str) -> None:
        """Refuse beforehand an archive that announces `more` members than are allowed."""
        if self._members + more > self.limits.members:
            raise bad("archive-too-many-members", where)

    def deeper(self, depth: int, where: str) -> None:
        """Refuse an archive inside too many others."""
        if depth > self.limits.depth:
            raise bad("archive-too-deep", where)


class Reader:
    """Reads exact amounts from chunks; never holds more than was asked for and one chunk."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._left = memoryview(b"")

    def peek(self, size: int) -> bytes:
        """Return up to `size` bytes without taking them."""
        data = self.read(size)
        self.put_back(data)
        return data

    def put_back(self, data: bytes) -> None:
        """Let `data` be what comes next."""
        if self._left:
            self._chunks = chain((bytes(self._left),), self._chunks)
        self._left = memoryview(data)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, less only at the end."""
        return b"".join(self.pieces(size))

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield pieces that make `size` bytes, less only at the end."""
        while size > 0 and (self._left or self._next()):
            piece = self._left[:size]
            self._left = self._left[len(piece) :]
            size -= len(piece)
            yield bytes(piece)

    def rest(self) -> Iterator[bytes]:
        """Yield what is left."""
        while self._left or self._next():
            piece, self._left = self._left, memoryview(b"")
            yield bytes(piece)

    def _next(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._left = memoryview(chunk)
                return True
        return False


def bad(code: str, where: str) -> BadRecord:
    """Return the error that refuses a delivery for `code`."""
    return BadRecord(Finding(code, where, "error"))
