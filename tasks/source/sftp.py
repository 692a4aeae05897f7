"""SFTP (`kind: sftp`): a partner's drop zone over SSH, version 3 of the protocol (draft-ietf-secsh-filexfer-02)."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import paramiko

from tasks.errors import Permanent, Transient
from tasks.model import Offer
from tasks.source.files import FileSource, changed, unfinished
from tasks.source.files_names import ARCHIVE, archived, content_id, raw_name, readable, safe, spelled
from tasks.source.files_ready import Entry
from tasks.source.sftp_connection import Connection, download, is_file, scan


class SftpSource(FileSource):
    """Files of one folder of an SFTP server, over one connection with a channel for each reader.

    Versions are size and modification time in whole seconds, which is all that the protocol tells.
    """

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        super().__init__(options, connection)
        self._connection = Connection(connection)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _list(self) -> Iterator[Entry]:
        folders = [b""]
        with self._connection.client() as client:
            base = self._base(client)
            while folders:
                folder = folders.pop()
                for name, attributes in self._scan(client, posixpath.join(base, folder)):
                    if _is_folder(attributes) and self._enters(readable(name)) and safe(readable(name)):
                        folders.append(posixpath.join(folder, name))
                    elif is_file(attributes):
                        yield _entry(posixpath.join(folder, name), attributes)

    def _scan(self, client: paramiko.SFTPClient, path: bytes) -> Iterator[tuple[bytes, paramiko.SFTPAttributes]]:
        """List a folder; an entry without a mode (some servers send none) is asked for."""
        for name, attributes in scan(client, path):
            if b"/" in name or name in (b"", b".", b".."):
                continue
            if attributes.st_mode is None:
                with contextlib.suppress(FileNotFoundError):
                    yield name, client.lstat(posixpath.join(path, name))
            else:
                yield name, attributes

    def _base(self, client: paramiko.SFTPClient) -> bytes:
        """Return the real path of `source.path`; raises `Permanent` where it is no folder."""
        try:
            real = client.normalize(self.options.path or ".")
            attributes = client.stat(real)
        except FileNotFoundError:
            raise Permanent(
                f"source.path does not exist on {self._connection.where}: have the partner create it"
            ) from None
        if not _is_folder(attributes):
            raise Permanent(
                f"source.path is no folder on {self._connection.where}: name the folder that holds the files"
            )
        return real.encode()

    def _stat(self, offer: Offer) -> Entry | None:
        with self._connection.client() as client:
            try:
                attributes = client.lstat(self._path(offer))
            except FileNotFoundError:
                return None
            return _entry(raw_name(offer), attributes) if is_file(attributes) else None

    def _path(self, offer: Offer) -> bytes:
        if not safe(offer.name):
            raise Permanent(f"{content_id(offer.name)} has a name that leads out of source.path: it is not touched")
        return posixpath.join((self.options.path or ".").encode(), raw_name(offer))

    def _open(self, offer: Offer, offset: int) -> Iterator[bytes]:
        path, size = self._path(offer), offer.size or 0
        with self._connection.client() as client:
            with contextlib.suppress(FileNotFoundError):
                self._regular(client, path, offer)
                with client.open(path, "rb") as handle:
                    self._unchanged(handle.stat(), offer)
                    for chunk in download(client, handle, offset, size):
                        offset += len(chunk)
                        yield chunk
                    self._unchanged(handle.stat(), offer)
                self._unchanged(client.lstat(path), offer)
                if offset >= size:
                    return
            raise changed(offer.name)

    def _regular(self, client: paramiko.SFTPClient, path: bytes, offer: Offer) -> None:
        """Refuse links and special files: opening a pipe would hang, a link could lead anywhere."""
        if not is_file(client.lstat(path)):
            raise Permanent(f"{content_id(offer.name)} is no regular file: it is not read")
        folder = posixpath.dirname(raw_name(offer))
        if folder and client.normalize(posixpath.dirname(path)).encode() != posixpath.join(self._base(client), folder):
            raise Permanent(f"{content_id(offer.name)} stands behind a link: it is not read")

    def _unchanged(self, attributes: paramiko.SFTPAttributes, offer: Offer) -> None:
        if _version(attributes) != offer.version:
            raise changed(offer.name)

    def _move(self, offer: Offer, target: str) -> None:
        path = self._path(offer)
        beside = posixpath.join(posixpath.dirname(path), ARCHIVE.encode())
        new = posixpath.join(beside, archived(offer, target))
        with self._connection.client() as client:
            with contextlib.suppress(OSError):
                client.mkdir(beside)
            try:
                client.rename(path, new)
            except FileNotFoundError:
                self._gone(client, path)
            except PermissionError:
                raise
            except OSError as error:
                self._collided(client, new, error)

    def _gone(self, client: paramiko.SFTPClient, path: bytes) -> None:
        """Nothing is wrong where the file itself is gone; else the folder could not be made."""
        with contextlib.suppress(FileNotFoundError):
            client.lstat(path)
            raise Permanent(
                f"{ARCHIVE}/ beside a file on {self._connection.where} is no folder and cannot be made: "
                "have the partner make it, or set source.after to delete or leave"
            )

    def _collided(self, client: paramiko.SFTPClient, target: bytes, error: OSError) -> None:
        """Version 3 has one word for all failures: a target that is there is a collision, all else is the failure."""
        try:
            client.lstat(target)
        except FileNotFoundError:
            raise error from None
        raise FileExistsError

    def _remove(self, offer: Offer) -> None:
        with self._connection.client() as client, contextlib.suppress(FileNotFoundError):
            client.remove(self._path(offer))

    def _put(self, path: str, chunks: Iterable[bytes]) -> None:
        folder, slash, name = path.rpartition("/")
        part = f"{folder}{slash}{unfinished(name)}"
        with self._connection.client() as client:
            try:
                _make_folder(client, folder)
                written = _write(client, part, chunks)
                if client.stat(part).st_size != written:
                    raise Transient(f"{self._connection.where} kept less than was written: it is tried again")
                _replace(client, part, path)
            except FileNotFoundError:
                raise Permanent(
                    f"a file cannot be written to {self._connection.where}: have the partner make the folder, "
                    "and grant the right to write into it"
                ) from None


def _make_folder(client: paramiko.SFTPClient, path: str) -> None:
    if not path.strip("/"):
        return
    try:
        client.stat(path)
    except FileNotFoundError:
        _make_folder(client, path.rpartition("/")[0])
        client.mkdir(path)


def _write(client: paramiko.SFTPClient, path: str, chunks: Iterable[bytes]) -> int:
    written = 0
    with client.open(path, "wb") as handle:
        # answers are collected at the end: one round trip, not one a block
        handle.set_pipelined(True)
        for chunk in chunks:
            handle.write(chunk)
            written += len(chunk)
    return written


def _replace(client: paramiko.SFTPClient, part: str, path: str) -> None:
    """Rename over what is there; version 3's own rename refuses that, so that without the extension it goes first."""
    try:
        client.posix_rename(part, path)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            client.remove(path)
        client.rename(part, path)


def _is_folder(attributes: paramiko.SFTPAttributes) -> bool:
    return attributes.st_mode is not None and attributes.st_mode & 0o170000 == 0o040000


def _version(attributes: paramiko.SFTPAttributes) -> str:
    return f"{int(attributes.st_mtime or 0)}-{attributes.st_size or 0}"


def _entry(raw: bytes, attributes: paramiko.SFTPAttributes) -> Entry:
    size, modified = attributes.st_size or 0, float(attributes.st_mtime or 0)
    return Entry(readable(raw), _version(attributes), size, modified, spelled(raw))
