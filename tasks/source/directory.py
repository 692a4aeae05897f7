"""Local and mounted drop folders (`kind: directory`).

Confined to the root: every folder on the way is opened without following links, so that neither a name nor a link
that is swapped in between leads outside; only regular files are opened.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.errors import ConfigError, Permanent, Transient
from tasks.model import Offer
from tasks.source.files import FileSource, changed, unfinished
from tasks.source.files_names import ARCHIVE, archived, content_id, raw_name, readable, safe, spelled
from tasks.source.files_ready import Entry

CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class DirectorySource(FileSource):
    """Files of one folder; the connection's value `root` confines the feed's `path`."""

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        super().__init__(options, connection)
        if not connection.get("root"):
            raise ConfigError("the directory's connection has no `root`: set it to the folder that partners drop into")
        self._root = Path(connection["root"])
        self._path = [part for part in options.path.split("/") if part not in ("", ".")]
        if ".." in self._path:
            raise ConfigError("`path` leads outside the connection's root: write it without `..`")

    def close(self) -> None:
        """Nothing is held open between calls."""

    def _list(self) -> Iterator[Entry]:
        try:
            with self._folder("") as base:
                yield from self._scan(base, "")
        except FileNotFoundError:
            raise Permanent("source.path does not exist below the connection's root: create the folder") from None

    def _scan(self, folder: int, prefix: str) -> Iterator[Entry]:
        with os.scandir(folder) as entries:
            for found in entries:
                with contextlib.suppress(FileNotFoundError):
                    if found.is_file(follow_symlinks=False):
                        yield _entry(prefix + found.name, found.stat(follow_symlinks=False))
                    elif found.is_dir(follow_symlinks=False) and self._enters(found.name):
                        yield from self._below(folder, found.name, prefix)

    def _below(self, folder: int, name: str, prefix: str) -> Iterator[Entry]:
        inner = os.open(name, _FOLDER, dir_fd=folder)
        try:
            yield from self._scan(inner, f"{prefix}{name}/")
        finally:
            os.close(inner)

    def _stat(self, offer: Offer) -> Entry | None:
        try:
            with self._parent(offer) as (folder, base):
                found = os.stat(base, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return _entry(offer.name, found) if stat.S_ISREG(found.st_mode) else None

    def _open(self, offer: Offer, offset: int) -> Iterator[bytes]:
        with self._handle(offer) as handle:
            if _entry(offer.name, os.fstat(handle)).version != offer.version:
                raise changed(offer.name)
            os.lseek(handle, offset, os.SEEK_SET)
            while chunk := self._block(handle):
                yield chunk
            self._unchanged(offer, handle)

    def _unchanged(self, offer: Offer, handle: int) -> None:
        now = self._stat(offer)
        if now is None or now.version != offer.version or _entry(offer.name, os.fstat(handle)).version != offer.version:
            raise changed(offer.name)

    def _move(self, offer: Offer, target: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._parent(offer) as (folder, base):
            with contextlib.suppress(FileExistsError):
                os.mkdir(ARCHIVE, dir_fd=folder)
            archive = os.open(ARCHIVE, _FOLDER, dir_fd=folder)
            try:
                self._rename(folder, base, archive, os.fsdecode(archived(offer, target)))
            finally:
                os.close(archive)

    def _rename(self, folder: int, base: str, archive: int, target: str) -> None:
        """Link, then unlink: unlike a rename this never replaces what is there; without hard links, look first."""
        try:
            os.link(base, target, src_dir_fd=folder, dst_dir_fd=archive, follow_symlinks=False)
        except FileExistsError:
            if not _same(folder, base, archive, target):
                raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS):
                raise
            if target in os.listdir(archive):
                raise FileExistsError from None
            os.rename(base, target, src_dir_fd=folder, dst_dir_fd=archive)
            return
        os.unlink(base, dir_fd=folder)

    def _remove(self, offer: Offer) -> None:
        with contextlib.suppress(FileNotFoundError), self._parent(offer) as (folder, base):
            os.unlink(base, dir_fd=folder)

    def _put(self, path: str, chunks: Iterable[bytes]) -> None:
        *folders, name = path.strip("/").split("/")
        try:
            with contextlib.ExitStack() as opened, self._typed():
                handle = self._step(opened, self._root, None)
                for part in folders:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                    handle = self._step(opened, part, handle)
                _write(handle, unfinished(name), chunks)
                os.replace(unfinished(name), name, src_dir_fd=handle, dst_dir_fd=handle)
                os.fsync(handle)
        except FileNotFoundError:
            raise Permanent("the directory's `root` does not exist: create it, nothing was written") from None

    @contextlib.contextmanager
    def _handle(self, offer: Offer) -> Iterator[int]:
        try:
            with self._parent(offer) as (folder, base):
                handle = os.open(base, _FILE, dir_fd=folder)
        except FileNotFoundError:
            raise changed(offer.name) from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Permanent(f"{content_id(offer.name)} is no regular file: it is not read")
            yield handle
        finally:
            os.close(handle)

    def _block(self, handle: int) -> bytes:
        try:
            return os.read(handle, CHUNK)
        except OSError as error:
            raise Transient(f"reading from the directory failed ({errno.errorcode.get(error.errno or 0)})") from None

    @contextlib.contextmanager
    def _parent(self, offer: Offer) -> Iterator[tuple[int, str]]:
        if not safe(offer.name):
            raise Permanent(f"{content_id(offer.name)} has a name that leads out of source.path: it is not touched")
        folder, _, base = os.fsdecode(raw_name(offer)).rpartition("/")
        with self._folder(folder) as handle:
            yield handle, base

    @contextlib.contextmanager
    def _folder(self, below: str) -> Iterator[int]:
        """Open a folder below the path, one step at a time, and turn what the system says into the error tree."""
        with contextlib.ExitStack() as opened, self._typed():
            handle = self._step(opened, self._root, None)
            for part in (*self._path, *filter(None, below.split("/"))):
                handle = self._step(opened, part, handle)
            yield handle

    def _step(self, opened: contextlib.ExitStack, name: str | Path, folder: int | None) -> int:
        flags = _FOLDER if folder is not None else _FOLDER & ~os.O_NOFOLLOW
        handle = os.open(name, flags, dir_fd=folder)
        opened.callback(os.close, handle)
        return handle

    @contextlib.contextmanager
    def _typed(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            raise _error(error) from None


def _write(folder: int, name: str, chunks: Iterable[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o664, dir_fd=folder), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _error(error: OSError) -> Permanent | Transient:
    word = errno.errorcode.get(error.errno or 0, "error")
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return Permanent("source.path is no folder below the connection's root, or leads through a link: name a folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Permanent(
            f"the drop folder refuses ({word}): give Sluice's user the right to read, and to move or delete"
        )
    return Transient(f"the drop folder does not answer ({word}): is the mount there?")


def _entry(name: str, found: os.stat_result) -> Entry:
    raw = os.fsencode(name)
    version = f"{found.st_mtime_ns}-{found.st_size}"
    return Entry(readable(raw), version, found.st_size, found.st_mtime, spelled(raw))


def _same(folder: int, base: str, archive: int, target: str) -> bool:
    """Say whether the target is this very file: then a crash came between linking and unlinking."""
    one = os.stat(base, dir_fd=folder, follow_symlinks=False)
    other = os.stat(target, dir_fd=archive, follow_symlinks=False)
    return os.path.samestat(one, other)
