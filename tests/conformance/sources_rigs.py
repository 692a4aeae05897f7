"""The partner's side of every kind of source: where it drops files, and a source that reads from there."""

from __future__ import annotations

import itertools
import os
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tasks.source.directory import DirectorySource
from tasks.source.files import FileSource
from tasks.source.memory import MemorySource, folder
from tasks.source.port import FileOptions, Ready
from tasks.source.s3 import S3Options, S3Source
from tasks.source.sftp import SftpSource

_numbers = itertools.count(1)


class Rig(ABC):
    """One partner's drop zone; names may hold subfolders."""

    kind: str
    ready = Ready(stable_polls=1)

    def __init__(self) -> None:
        self._opened: list[FileSource] = []

    @abstractmethod
    def drop(self, name: str, data: bytes) -> None:
        """Put a file there, whole, or replace it; a later drop of other bytes is another version."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Take a file away."""

    @abstractmethod
    def names(self) -> list[str]:
        """Return what is there, sorted."""

    @abstractmethod
    def build(self, options: dict[str, Any]) -> FileSource:
        """Return a source over this zone."""

    def source(self, **options: Any) -> FileSource:
        made = self.build({"kind": self.kind, "ready": self.ready, **options})
        self._opened.append(made)
        return made

    def close(self) -> None:
        for source in self._opened:
            source.close()


class MemoryRig(Rig):
    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._path = f"rig-{next(_numbers)}"
        self._folder = folder(self._path)

    def drop(self, name: str, data: bytes) -> None:
        self._folder.put(name, data)

    def remove(self, name: str) -> None:
        self._folder.remove(name)

    def names(self) -> list[str]:
        return self._folder.names()

    def build(self, options: dict[str, Any]) -> FileSource:
        return MemorySource(FileOptions(path=self._path, **options), {})


class FolderRig(Rig):
    """A drop zone that is a folder of this machine; times are set, so that no test waits for a clock."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._clock = int(time.time()) - 1_000_000
        self._lock = threading.Lock()

    def drop(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        upload = path.with_name(f".upload-{next(_numbers)}")
        upload.write_bytes(data)
        with self._lock:
            self._clock += 1
            os.utime(upload, (self._clock, self._clock))
        upload.rename(path)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())


class DirectoryRig(FolderRig):
    kind = "directory"

    def build(self, options: dict[str, Any]) -> FileSource:
        return DirectorySource(FileOptions(path=self.root.name, **options), {"root": str(self.root.parent)})


class SftpRig(FolderRig):
    kind = "sftp"

    def __init__(self, root: Path, connection: dict[str, str]) -> None:
        super().__init__(root)
        self.connection = connection

    def build(self, options: dict[str, Any]) -> FileSource:
        return SftpSource(FileOptions(path=f"/{self.root.name}", **options), self.connection)


class S3Rig(Rig):
    kind = "s3"

    def __init__(self, client: Any, connection: dict[str, str], bucket: str) -> None:
        super().__init__()
        self.client, self.bucket = client, bucket
        self._last: dict[str, Any] = {}
        self.connection = {**connection, "bucket": bucket}
        client.create_bucket(Bucket=bucket)

    def drop(self, name: str, data: bytes) -> None:
        """S3 tells times in whole seconds: the same bytes again within one are the same version."""
        while True:
            self.client.put_object(Bucket=self.bucket, Key=f"outbound/{name}", Body=data)
            before, self._last[name] = self._last.get(name), self._modified(name)
            if before != self._last[name]:
                return
            time.sleep(0.05)

    def _modified(self, name: str) -> Any:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"outbound/{name}")
        return found["Contents"][0]["LastModified"].replace(microsecond=0)

    def remove(self, name: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"outbound/{name}")

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix="outbound/")
        return sorted(each["Key"].removeprefix("outbound/") for page in pages for each in page.get("Contents", ()))

    def build(self, options: dict[str, Any]) -> FileSource:
        return S3Source(S3Options(path="outbound", **options), self.connection)
