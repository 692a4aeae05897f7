"""A file while it is written: in a temporary file without a name, so that memory holds no more than a record."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from tempfile import TemporaryFile
from typing import IO, Protocol

CHUNK = 1 << 20


class Limits(Protocol):
    """Where a file ends."""

    records: int
    bytes: int


class Part:
    """One file's content; `what` and `extension` go into its name, `folder` before it.

    Whoever makes one closes it once it was taken: a part that a generator yields is read before the next is asked for.
    """

    def __init__(self, what: str, extension: str, folder: str = "") -> None:
        self.what, self.extension, self.folder = what, extension, folder
        self.records = 0
        self.file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed by `close`

    def fits(self, more: int, limits: Limits) -> bool:
        """Say whether a record of so many bytes may still go in; the first one may, however large."""
        return not self.records or (self.records < limits.records and self.file.tell() + more <= limits.bytes)

    def add(self, data: bytes, records: int = 1) -> None:
        """Write so many records at the end."""
        self.file.write(data)
        self.records += records

    def close(self) -> None:
        """Give the temporary file up."""
        self.file.close()


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file from its beginning, a chunk at a time."""
    file.seek(0)
    return iter(lambda: file.read(CHUNK), b"")


def sha256(file: IO[bytes]) -> str:
    """Return the hash of a whole file in hexadecimal digits."""
    found = hashlib.sha256()
    for chunk in chunks(file):
        found.update(chunk)
    return found.hexdigest()


def parts(
    make: Callable[[], Part],
    records: Iterable[bytes],
    limits: Limits,
    *,
    head: bytes = b"",
    tail: Callable[[int], bytes] = lambda _records: b"",
    even_empty: bool = False,
) -> Iterator[Part]:
    """Yield files of records between a head and a tail; the tail is made for the number of records.

    Where there is no record there is no file, but one with the head alone where it is to be `even_empty`.
    """
    left = iter(records)
    record = next(left, None)
    while record is not None or even_empty:
        even_empty = False
        with closing(make()) as part:
            part.add(head, 0)
            while record is not None and part.fits(len(record), limits):
                part.add(record)
                record = next(left, None)
            part.add(tail(part.records), 0)
            yield part
