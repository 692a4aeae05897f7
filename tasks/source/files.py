"""What the sources of files share: one poll, one way to finish, one check of what was read.

A kind (sftp, s3, directory, memory) lists, stats, opens, moves and removes; everything that a feed file says about
files is kept here, once.
"""

from __future__ import annotations

import contextlib
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import structlog

from tasks.errors import BadRecord, Permanent, SluiceError, Transient
from tasks.model import Finding, Offer
from tasks.source.files_manifest import LIMIT
from tasks.source.files_names import ARCHIVE, content_id, deep, matcher, patterns, safe
from tasks.source.files_ready import Entry, Listed, Rule, rule_for
from tasks.source.port import FileOptions, SourceOptions, SourceState

log = structlog.get_logger(__name__)


class FileSource(ABC):
    """A source of files: the port `Source` over five calls that a kind provides.

    - An offer's `meta` holds `modified`; of a manifest `manifest`, `expect` (`size`, `records`, a checksum by its
      algorithm's name) and `findings` (`code`, `location`, `severity`): with an error among them the delivery is
      to be refused or held. It holds `marker` where one was asked for.
    - What was landed and not finished before a crash is finished by the next poll.
    - Safe for several threads; each `read` has its own handle.
    """

    Options: ClassVar[type[SourceOptions]] = FileOptions

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        self.options: FileOptions = options
        self.connection = connection
        self._globs = patterns(options.match)
        self._wanted = matcher(self._globs)
        self._deep = deep(self._globs)
        self._rule: Rule | None = None

    def _enters(self, folder: str) -> bool:
        """Say whether the listing goes into a subfolder of this name: never into where it archives."""
        return self._deep and not (folder == ARCHIVE and self.options.after == "archive")

    @abstractmethod
    def _list(self) -> Iterator[Entry]:
        """Yield the regular files below the path: those of subfolders too where `self._deep`."""

    @abstractmethod
    def _stat(self, offer: Offer) -> Entry | None:
        """Return the file that has the offer's name now, None where there is none."""

    @abstractmethod
    def _open(self, offer: Offer, offset: int) -> Iterator[bytes]:
        """Yield the bytes from `offset` on; raises `Transient` where they are not the offered version's."""

    @abstractmethod
    def _move(self, offer: Offer, target: str) -> None:
        """Rename to `target`, a name below the path, whose folder may not exist; raises `FileExistsError` if taken."""

    @abstractmethod
    def _remove(self, offer: Offer) -> None:
        """Delete the file; nothing happens where there is none."""

    @abstractmethod
    def _put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file at `path` below the connection's root under another name first, then rename it over `path`."""

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file of these bytes at `path`, in place of one that is there (`tasks.source.port.Receiver`)."""
        if not safe(path.lstrip("/")):
            raise Permanent(
                f"{content_id(path)} is no path to write to: name a folder without `..`, nothing was written"
            )
        self._put(path, chunks)

    def poll(self, state: SourceState) -> Iterator[Offer]:
        """Yield what is whole and not landed yet, in the order of the listing as far as the rule allows."""
        rule = self._rule = rule_for(self.options.ready, state, self._whole)
        failed: list[SluiceError] = []
        for entry in self._wanted_entries(rule):
            if state.landed(entry.name, entry.version) and not rule.companion(entry.name):
                rule.known(entry)
                self._finish_late(entry, rule, failed)
            else:
                yield from rule.seen(entry)
        yield from rule.rest()
        if failed:
            raise failed[0]

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        """Yield the offer's bytes from `offset` on.

        Raises `Transient` where they changed since the poll or the connection broke, and, after the last byte,
        `BadRecord` where a checksum of the manifest disagrees (only read from 0 on can it be computed).
        """
        expect = offer.meta.get("expect", {})
        sums = {} if offset else {name: hashlib.new(name) for name in expect if name in hashlib.algorithms_available}
        for chunk in self._open(offer, offset):
            for digest in sums.values():
                digest.update(chunk)
            yield chunk
        if any(digest.hexdigest() != expect[name] for name, digest in sums.items()):
            raise BadRecord(Finding("manifest-checksum-mismatch", "manifest.checksum", "error"))

    def finish(self, offer: Offer, state: SourceState) -> None:
        """Archive, delete or leave the file and its marker; again does nothing, and a newer version is left alone."""
        if self.options.after == "leave":
            return
        marker = offer.meta.get("marker")
        now = self._stat(offer)
        if now is not None and now.version != offer.version:
            return
        if marker:
            self._retire(Offer(marker, ""))
        if now is not None:
            self._retire(offer)

    def done(self, state: SourceState) -> None:
        """Archive or delete the manifests of which no file is left."""
        if self.options.after == "leave" or not isinstance(self._rule, Listed):
            return
        for manifest, names in self._rule.files.items():
            if all(self._stat(Offer(name, "")) is None for name in names):
                self._retire(Offer(manifest, ""))

    @abstractmethod
    def close(self) -> None:
        """Give up connections."""

    def _wanted_entries(self, rule: Rule) -> Iterator[Entry]:
        refused = 0
        for entry in self._list():
            if not safe(entry.name):
                refused += 1
            elif rule.companion(entry.name) or self._wanted(entry.name):
                yield entry
        if refused:
            log.warning("unsafe-names-skipped", count=refused)

    def _finish_late(self, entry: Entry, rule: Rule, failed: list[SluiceError]) -> None:
        """Finish what a crash between landing and finishing left; one that cannot be moved stops no other."""
        if self.options.after == "leave":
            return
        marker: Callable[[str], str] | None = getattr(rule, "marker", None)
        try:
            self._finish_version(entry, marker(entry.name) if marker else None)
        except SluiceError as error:
            failed.append(error)

    def _finish_version(self, entry: Entry, marker: str | None) -> None:
        if marker:
            self._retire(Offer(marker, ""))
        self._retire(entry.offer())

    def _retire(self, offer: Offer) -> None:
        if self.options.after == "delete":
            self._remove(offer)
            return
        for target in _targets(offer):
            with contextlib.suppress(FileExistsError):
                self._move(offer, target)
                return

    def _whole(self, entry: Entry) -> bytes:
        """Return a manifest's bytes; raises `ValueError` where it is too large to be one."""
        if entry.size > LIMIT:
            raise ValueError("the manifest is larger than a manifest can be")
        return b"".join(self._open(entry.offer(), 0))


def changed(name: str) -> Transient:
    """Return the error for a file that is no longer what was offered."""
    return Transient(
        f"{content_id(name)} changed since the poll: nothing of it is landed, the next poll offers what is there then"
    )


def unfinished(name: str) -> str:
    """Return the name beside `name` under which it is written: hidden, the same one after a crash."""
    return f".{name}.part"


def _targets(offer: Offer) -> Iterator[str]:
    folder, slash, base = offer.name.rpartition("/")
    beside = f"{folder}{slash}{ARCHIVE}/{base}"
    yield beside
    yield f"{beside}.{offer.version}" if offer.version else f"{beside}.1"
    for number in range(2, 1_000_000):
        yield f"{beside}.{offer.version}.{number}" if offer.version else f"{beside}.{number}"
