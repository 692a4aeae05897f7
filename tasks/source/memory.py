"""The in-memory source (`kind: memory`): what tests, demonstrations and the conformance suite use as a fake.

It keeps every promise of the file sources; `source.path` names a `Folder` of this process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tasks.model import Notice, Offer
from tasks.source.files import FileSource, changed
from tasks.source.files_ready import Entry

CHUNK = 64 * 1024
_folders: dict[str, Folder] = {}


class Folder:
    """Named bytes with a serial number each: a partner's side of the fake."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.files: dict[str, tuple[int, bytes]] = {}
        self._serial = 0

    def put(self, name: str, data: bytes) -> None:
        """Drop a file, or replace it."""
        with self.lock:
            self._serial += 1
            self.files[name] = (self._serial, data)

    def remove(self, name: str) -> None:
        """Take a file away; nothing happens where there is none."""
        with self.lock:
            self.files.pop(name, None)

    def names(self) -> list[str]:
        """Return what is there, sorted."""
        with self.lock:
            return sorted(self.files)


def folder(path: str) -> Folder:
    """Return this process's folder of that name, which is empty at first."""
    return _folders.setdefault(path, Folder())


class MemorySource(FileSource):
    """Files of a `Folder`."""

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        super().__init__(options, connection)
        self._folder = folder(options.path)

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _list(self) -> Iterator[Entry]:
        for name in self._folder.names():
            entry = self._stat(Offer(name, ""))
            if entry and all(self._enters(part) for part in name.split("/")[:-1]):
                yield entry

    def _stat(self, offer: Offer) -> Entry | None:
        with self._folder.lock:
            found = self._folder.files.get(offer.name)
        return Entry(offer.name, f"{found[0]}-{len(found[1])}", len(found[1]), float(found[0])) if found else None

    def _open(self, offer: Offer, offset: int) -> Iterator[bytes]:
        with self._folder.lock:
            _, data = self._folder.files.get(offer.name, (0, b""))
        self._unchanged(offer)
        for at in range(offset, len(data), CHUNK):
            yield data[at : at + CHUNK]
        self._unchanged(offer)

    def _unchanged(self, offer: Offer) -> None:
        now = self._stat(offer)
        if now is None or now.version != offer.version:
            raise changed(offer.name)

    def _move(self, offer: Offer, target: str) -> None:
        with self._folder.lock:
            if target in self._folder.files:
                raise FileExistsError
            if offer.name in self._folder.files:
                self._folder.files[target] = self._folder.files.pop(offer.name)

    def _remove(self, offer: Offer) -> None:
        self._folder.remove(offer.name)

    def _put(self, path: str, chunks: Iterable[bytes]) -> None:
        place, _, name = path.rpartition("/")
        folder(place).put(name, b"".join(chunks))


class MemoryState:
    """A `SourceState` over dicts: what the ledger keeps, for tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sightings: dict[str, tuple[str, int]] = {}
        self._landed: set[tuple[str, str]] = set()
        self._cursor: dict[str, Any] = {}
        self._notices: list[Notice] = []

    def sighted(self, name: str, version: str) -> int:
        with self._lock:
            before, count = self._sightings.get(name, ("", 0))
            self._sightings[name] = (version, count + 1 if before == version else 1)
            return self._sightings[name][1]

    def landed(self, name: str, version: str) -> bool:
        with self._lock:
            return (name, version) in self._landed

    def land(self, offer: Offer) -> None:
        """Note that the offer's bytes are committed."""
        with self._lock:
            self._landed.add((offer.name, offer.version))

    def cursor(self) -> Mapping[str, Any]:
        with self._lock:
            return dict(self._cursor)

    def save(self, cursor: Mapping[str, Any]) -> None:
        with self._lock:
            self._cursor = dict(cursor)

    def notice(self, kind: str = "", ident: str = "") -> None:
        """Note what a listener was told."""
        with self._lock:
            self._notices.append(Notice(len(self._notices) + 1, kind, ident))

    def notices(self) -> Sequence[Notice]:
        with self._lock:
            return list(self._notices)

    def noticed(self, numbers: Sequence[int]) -> None:
        with self._lock:
            self._notices = [one for one in self._notices if one.number not in numbers]
