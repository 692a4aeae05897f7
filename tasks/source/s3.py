"""S3 and what speaks like it (`kind: s3`).

The listing is the truth, notifications only a hint where to look first: they come twice, late or never. There is no
watermark: a key that sorts earlier may come later, so that every listing is compared with what has been landed.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from boto3.s3.transfer import TransferConfig

from tasks.errors import ConfigError, Transient
from tasks.model import Offer
from tasks.s3 import Gone, Unsupported, client, customer_key, typed
from tasks.source.files import FileSource, changed
from tasks.source.files_ready import Entry
from tasks.source.port import FileOptions, Ready, SourceOptions
from tasks.source.s3_events import Hints

CHUNK = 1 << 20
_ONE_COPY = 5 * 1024**3
"""Bytes up to which one CopyObject does; more takes a copy in parts."""


class S3Options(FileOptions):
    """`path` is the prefix up to a slash; beginnings and ends of names are said by `match`.

    Objects appear whole, so that they are ready at first sight. With a queue of notifications the whole listing is
    taken only every `rescan` seconds.
    """

    ready: Ready = Ready(stable_polls=1)
    rescan: int = 3600


class S3Source(FileSource):
    """Objects of one bucket; a version is the ETag, which is not taken for a checksum, and the time of change."""

    Options: ClassVar[type[SourceOptions]] = S3Options

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        super().__init__(options, connection)
        self._bucket = connection.get("bucket", "")
        if not self._bucket:
            raise ConfigError("the S3 connection has no `bucket`")
        self._path = options.path.strip("/") + "/" if options.path.strip("/") else ""
        self._sse = customer_key(connection)
        self._what = f"bucket {self._bucket}"
        self._s3 = client("s3", connection, connection.get("endpoint_url"))
        self._hints = Hints(options, connection, self._bucket, self._path) if connection.get("sqs_queue_url") else None

    def close(self) -> None:
        """Give up connections."""
        self._s3.close()
        if self._hints:
            self._hints.close()

    def poll(self, state: Any) -> Iterator[Offer]:
        """Yield what is not landed yet: of all objects, or between two listings of those that notifications name."""
        if self._hints:
            self._hints.receive(state)
        yield from super().poll(state)

    def done(self, state: Any) -> None:
        """Forget the notifications whose objects are landed."""
        super().done(state)
        if self._hints:
            self._hints.done(state)

    def _list(self) -> Iterator[Entry]:
        names = self._hints.names() if self._hints else None
        if names is None:
            yield from self._listing()
            return
        for name in filter(self._inside, names):
            if entry := self._stat(Offer(name, "")):
                yield entry

    def _listing(self) -> Iterator[Entry]:
        asked: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._path + _beginning(self._globs)}
        if not self._deep:
            asked["Delimiter"] = "/"
        while True:
            with self._typed():
                page = self._s3.list_objects_v2(**asked)
            for found in page.get("Contents", ()):
                name = found["Key"][len(self._path) :]
                if self._inside(name):
                    yield _entry(name, found["ETag"], found["LastModified"], found["Size"])
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _inside(self, name: str) -> bool:
        """Say whether a name is an object's, not a folder's placeholder or in an archive."""
        return "/" not in name or (not name.endswith("/") and all(map(self._enters, name.split("/")[:-1])))

    def _stat(self, offer: Offer) -> Entry | None:
        try:
            with self._typed():
                found = self._s3.head_object(Bucket=self._bucket, Key=self._path + offer.name, **self._sse)
        except Gone:
            return None
        return _entry(offer.name, found["ETag"], found["LastModified"], found["ContentLength"])

    def _open(self, offer: Offer, offset: int) -> Iterator[bytes]:
        """Read the very object of the poll: If-Match pins its ETag, so that what is replaced is noticed at once.

        What is replaced after the first byte is still read whole, for S3 gives an object as it was when asked for.
        """
        size = offer.size or 0
        try:
            if offset >= size > 0:
                return self._present(offer)
            with self._typed(), self._asked(offer, offset) as body:
                while chunk := body.read(CHUNK):
                    offset += len(chunk)
                    yield chunk
        except Gone:
            raise changed(offer.name) from None
        if offset < size:
            raise Transient(f"{self._what} sent less than it announced: it is tried again")

    def _asked(self, offer: Offer, offset: int) -> Any:
        """Return the body of the object of that ETag from `offset` on; raises `Gone` where it is another one."""
        pinned = {"IfMatch": f'"{offer.meta["etag"]}"', **self._sse}
        ranged = {"Range": f"bytes={offset}-"} if offset else {}
        found = self._s3.get_object(Bucket=self._bucket, Key=self._path + offer.name, **pinned, **ranged)
        # not every store that speaks S3 heeds If-Match
        if found["ETag"].strip('"') != offer.meta["etag"]:
            found["Body"].close()
            raise Gone
        return found["Body"]

    def _present(self, offer: Offer) -> None:
        now = self._stat(offer)
        if now is None or now.meta["etag"] != offer.meta["etag"]:
            raise Gone

    def _move(self, offer: Offer, target: str) -> None:
        """Copy and delete; a copy that a crash left is recognised by its ETag and size."""
        there = self._stat(Offer(target, ""))
        here = self._stat(offer)
        if here is None:
            return
        same = there is not None and (there.meta["etag"], there.size) == (here.meta["etag"], here.size)
        if there is not None and not same:
            raise FileExistsError
        if not same:
            self._copy(here, target)
        self._remove(here.offer())

    def _copy(self, here: Entry, target: str) -> None:
        extra = {
            "CopySourceIfMatch": f'"{here.meta["etag"]}"',
            **self._sse,
            **customer_key(self.connection, "CopySource"),
        }
        with self._typed():
            self._s3.copy(
                {"Bucket": self._bucket, "Key": self._path + here.name},
                self._bucket,
                self._path + target,
                ExtraArgs=extra,
                Config=TransferConfig(multipart_threshold=_ONE_COPY, use_threads=False),
            )

    def _remove(self, offer: Offer) -> None:
        """Delete the object of that ETag alone: what has come in its place stays, and is the next poll's."""
        what = {"Bucket": self._bucket, "Key": self._path + offer.name}
        pinned = {"IfMatch": f'"{offer.meta["etag"]}"'} if "etag" in offer.meta else {}
        try:
            with contextlib.suppress(Gone), self._typed():
                self._s3.delete_object(**what, **pinned)
        except Unsupported:
            # it was looked at just before: the best that such a store allows
            with self._typed():
                self._s3.delete_object(**what)

    def _put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Upload; an object appears whole or not at all, so that no other name is needed."""
        with self._typed():
            self._s3.upload_fileobj(
                Upload(chunks),
                self._bucket,
                path.strip("/"),
                ExtraArgs=self._sse,
                Config=TransferConfig(use_threads=False),
            )

    def _typed(self) -> Any:
        return typed(self._what)


class Upload:
    """Chunks as the file that boto3 reads from: as much as was asked for, less only at the end."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, all that are left without one."""
        have, length = [self._rest], len(self._rest)
        while (size < 0 or length < size) and (chunk := next(self._chunks, None)) is not None:
            have.append(chunk)
            length += len(chunk)
        data = b"".join(have)
        cut = len(data) if size < 0 else size
        self._rest = data[cut:]
        return data[:cut]


def _beginning(globs: tuple[str, ...]) -> str:
    """Return what all names begin with that a single glob can match: the server then lists no others."""
    return re.split(r"[*?\[]", globs[0])[0] if len(globs) == 1 else ""


def _entry(name: str, etag: str, modified: Any, size: int) -> Entry:
    tag, at = etag.strip('"'), int(modified.timestamp())
    return Entry(name, f"{tag}-{at}", size, float(at), {"etag": tag})
