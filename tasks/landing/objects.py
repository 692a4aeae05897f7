"""Where landing keeps its objects: a port of four methods, over a folder or an S3 bucket."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from tasks.errors import Permanent, Transient
from tasks.landing.seal import sync_folder
from tasks.s3 import Gone, client, typed

PART = 8 * 1024 * 1024
"""Bytes of one part of an upload to S3; all but the last are at least 5 MiB by its rules."""


class Writer(Protocol):
    """Takes an object's bytes in order."""

    def write(self, data: bytes, /) -> object:
        """Take some more."""


class Objects(Protocol):
    """Whole objects by name: nothing half-written is ever visible, and what was written is kept."""

    def create(self, name: str) -> AbstractContextManager[Writer]:
        """Yield a writer; the object is durable when the block has ended without an error. Raises `Transient`."""

    def open(self, name: str) -> BinaryIO:
        """Return a seekable stream of an object's bytes; raises `Permanent` where there is none."""

    def replace(self, name: str) -> AbstractContextManager[Writer]:
        """Yield a writer of what takes an object's place; what it held before can be read by nobody afterwards.

        Raises `Transient`, and `Permanent` where older versions cannot be removed.
        """

    def remove(self, name: str) -> None:
        """Remove an object; nothing happens where there is none."""


class FolderObjects:
    """Files below a folder that its owner alone can read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def create(self, name: str) -> Iterator[Writer]:
        """Yield a writer to a file beside the target, which takes its place after it is on the disk."""
        path = self.folder / name
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        try:
            for folder in (self.folder, path.parent.parent, path.parent):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise Transient(
                f"landing: the disk did not take the delivery (errno {error.errno}); nothing was acknowledged, "
                f"free space or mend the folder and run again"
            ) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def open(self, name: str) -> BinaryIO:
        """Open the file."""
        try:
            return (self.folder / name).open("rb")
        except OSError as error:
            raise Permanent(
                f"landing: object {name[:24]}… cannot be opened (errno {error.errno}); restore the folder"
            ) from None

    @contextmanager
    def replace(self, name: str) -> Iterator[Writer]:
        """Yield a writer of a new file; the old one's header, without which nobody reads it, is overwritten."""
        with (self.folder / name).open("r+b") as old:
            with self.create(name) as file:
                yield file
            size = len(old.readline(4096))
            old.seek(0)
            old.write(bytes(size))
            old.flush()
            os.fsync(old.fileno())

    def remove(self, name: str) -> None:
        """Remove the file."""
        (self.folder / name).unlink(missing_ok=True)


class S3Objects:
    """Objects of a bucket below a prefix, uploaded in parts; the connection's values are those of an S3 source."""

    def __init__(self, bucket: str, prefix: str, connection: Mapping[str, str]) -> None:
        self.client: Any = client("s3", connection, connection.get("endpoint_url"))
        self.bucket = bucket
        self.prefix = prefix.strip("/")

    @contextmanager
    def create(self, name: str) -> Iterator[Writer]:
        """Yield a writer whose upload is completed at the end of the block, or given up."""
        where = {"Bucket": self.bucket, "Key": self._key(name)}
        with typed("the landing bucket"):
            upload = {**where, "UploadId": self.client.create_multipart_upload(**where)["UploadId"]}
        writer = _Upload(self.client, upload)
        try:
            yield writer
            with typed("the landing bucket"):
                writer.complete()
        except BaseException:
            with suppress(Exception), typed("the landing bucket"):
                self.client.abort_multipart_upload(**upload)
            raise

    def open(self, name: str) -> BinaryIO:
        """Return a buffered stream that fetches ranges as they are read."""
        where = {"Bucket": self.bucket, "Key": self._key(name)}
        try:
            with typed("the landing bucket"):
                size = int(self.client.head_object(**where)["ContentLength"])
        except Gone:
            raise Permanent(f"landing: object {name[:24]}… is not in the bucket; restore it") from None
        return io.BufferedReader(_Ranges(self.client, where, size), buffer_size=1024 * 1024)

    @contextmanager
    def replace(self, name: str) -> Iterator[Writer]:
        """Yield a writer as `create` does, and remove what a bucket that keeps versions kept of the old object."""
        with self.create(name) as writer:
            yield writer
        key = self._key(name)
        with typed("the landing bucket, asked for older versions (it wants s3:ListBucketVersions),"):
            pages = self.client.get_paginator("list_object_versions").paginate(Bucket=self.bucket, Prefix=key)
            older = [one for page in pages for one in page.get("Versions", ()) if one["Key"] == key]
        for one in older:
            if not one["IsLatest"]:
                with typed("the landing bucket, told to forget a version (it wants s3:DeleteObjectVersion),"):
                    self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=one["VersionId"])

    def remove(self, name: str) -> None:
        """Remove the object."""
        with suppress(Gone), typed("the landing bucket"):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


class _Upload:
    def __init__(self, s3: Any, upload: dict[str, str]) -> None:
        self.client, self.upload = s3, upload
        self.buffer = bytearray()
        self.parts: list[dict[str, Any]] = []

    def write(self, data: bytes, /) -> int:
        self.buffer += data
        while len(self.buffer) > PART:
            self._send(bytes(self.buffer[:PART]))
            del self.buffer[:PART]
        return len(data)

    def complete(self) -> None:
        self._send(bytes(self.buffer))
        self.client.complete_multipart_upload(**self.upload, MultipartUpload={"Parts": self.parts})

    def _send(self, data: bytes) -> None:
        number = len(self.parts) + 1
        with typed("the landing bucket"):
            answer = self.client.upload_part(**self.upload, PartNumber=number, Body=data)
        self.parts.append({"PartNumber": number, "ETag": answer["ETag"]})


class _Ranges(io.RawIOBase):
    """A seekable, read-only stream over an object's byte ranges."""

    def __init__(self, s3: Any, where: dict[str, str], size: int) -> None:
        self.client, self.where, self.size, self.place = s3, where, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.place, os.SEEK_END: self.size}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        last = min(self.place + len(buffer), self.size) - 1
        if last < self.place:
            return 0
        with typed("the landing bucket"):
            answer = self.client.get_object(**self.where, Range=f"bytes={self.place}-{last}")
            data = answer["Body"].read()
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)
