"""The bytes of one file of a bulk export, through every interruption, each byte once."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from tasks.errors import Permanent, SluiceError, Transient
from tasks.http import TRANSIENT_STATUS, Retry, place, plainly, retry_after
from tasks.http_pace import Pace
from tasks.source.bulk_job import BulkFile, JobGone, Manifest

_UNPACKED = {"", "identity", "gzip", "deflate"}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class FileChanged(Transient):
    """The file is not the one whose beginning is here: it is fetched again from the start."""


@dataclass(frozen=True, slots=True)
class Validator:
    """What tells one state of a file from another; empty where the server gives nothing of the kind."""

    etag: str = ""
    modified: str = ""

    @classmethod
    def of(cls, response: httpx.Response) -> Validator:
        """Return the validator of an answer; a weak ETag is none, and one of encoded bytes is not of the plain ones."""
        etag = response.headers.get("etag", "")
        usable = etag.startswith('"') and "content-encoding" not in response.headers
        return cls(etag if usable else "", response.headers.get("last-modified", ""))

    @property
    def condition(self) -> dict[str, str]:
        """The If-Range header, or nothing."""
        return {"If-Range": self.etag or self.modified} if self.etag or self.modified else {}


@dataclass(slots=True)
class FileStream:
    """Reads files of a manifest with one client; many threads may share it.

    - `base` is the server's base: where the manifest does not say, its host alone gets the access token.
    - `pace` limits and adapts how many files are read at once.
    """

    http: httpx.Client
    base: str
    pace: Pace
    retry: Retry

    def read(
        self,
        file: BulkFile,
        manifest: Manifest,
        offset: int = 0,
        validator: Validator | None = None,
        met: Callable[[Validator], None] = lambda _: None,
    ) -> Iterator[bytes]:
        """Yield the file's bytes from `offset` on; a cut connection is resumed by Range where it was.

        `validator` is the state that the bytes before `offset` belong to; `met` hears the state that is read now.
        Raises `JobGone` where the file's time is up, `FileChanged`, `Transient` or `Permanent`.
        """
        part = _Part(file, self._use_token(file, manifest), offset, validator or Validator())
        failures = 0
        while True:
            before = part.offset
            try:
                with plainly(f"file {file.name}", file.url), self.pace.slot():
                    yield from self._receive(part, met)
            except FileChanged:
                raise
            except _NeedsToken:
                part.use_token = True
            except Transient as error:
                failures = 1 if part.offset > before else failures + 1
                if failures >= self.retry.attempts:
                    raise
                self._wait(error, failures)
            else:
                self.pace.fine()
                return

    def _receive(self, part: _Part, met: Callable[[Validator], None]) -> Iterator[bytes]:
        with self._open(part) as answer:
            if answer.status_code == 401 and not part.use_token and self._at_home(part.file):
                raise _NeedsToken
            skip = _position(answer, part)
            if skip is None:
                return
            _readable(answer, part.file)
            if not part.offset:
                part.known = Validator.of(answer)
            met(part.known)
            for chunk in answer.iter_bytes():
                fresh = chunk[skip:] if skip else chunk
                skip = max(0, skip - len(chunk))
                if fresh:
                    part.offset += len(fresh)
                    yield fresh
            if skip:
                raise FileChanged(f"file {part.file.name}: it is shorter than it was")

    def _wait(self, error: Transient, failures: int) -> None:
        delay = self.retry.delay(failures, error.retry_after)
        if isinstance(error, _TooMuch):
            # The others wait only where the server said how long; fewer at once is the answer otherwise.
            self.pace.slow(error.retry_after or 0.0)
        time.sleep(delay)

    @contextlib.contextmanager
    def _open(self, part: _Part) -> Iterator[httpx.Response]:
        headers = {"Accept": "application/fhir+ndjson"}
        if part.offset:
            # Ranges are of the plain bytes: what was decoded here is not what a range of the encoded file counts.
            headers |= {"Range": f"bytes={part.offset}-", "Accept-Encoding": "identity", **part.known.condition}
        request = self.http.build_request("GET", part.file.url, headers=headers)
        if part.use_token:
            answer = self.http.send(request, stream=True, follow_redirects=True)
        else:
            answer = self.http.send(request, stream=True, follow_redirects=True, auth=None)
        try:
            yield answer
        finally:
            answer.close()

    def _use_token(self, file: BulkFile, manifest: Manifest) -> bool:
        return self._at_home(file) if manifest.requires_token is None else manifest.requires_token

    def _at_home(self, file: BulkFile) -> bool:
        return place(file.url) == place(self.base)


class _TooMuch(Transient):
    """The server says that requests come too fast."""


class _NeedsToken(SluiceError):
    """It was said that the file needs no token, and it does."""


@dataclass(slots=True)
class _Part:
    """How far one file is read, and of which state of it."""

    file: BulkFile
    use_token: bool
    offset: int
    known: Validator


def _position(answer: httpx.Response, part: _Part) -> int | None:
    """Return how many bytes of the answer are here already; None where the file is whole. Raises for a refusal."""
    status, offset, file, known = answer.status_code, part.offset, part.file, part.known
    if status == 206:
        return _range_start(answer, offset, file)
    if status == 416:
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        if total == str(offset):
            return None
        raise FileChanged(f"file {file.name}: it is shorter than it was")
    if status != 200:
        raise _refusal(answer, part)
    now = Validator.of(answer)
    if offset and known.etag and now.etag and now.etag != known.etag:
        raise FileChanged(f"file {file.name}: it changed while it was read")
    return offset


def _readable(answer: httpx.Response, file: BulkFile) -> None:
    """Refuse bytes that are packed in a way that nobody asked for: they would be taken for broken lines."""
    packed = {word.strip().lower() for word in answer.headers.get("content-encoding", "").split(",")}
    if not packed <= _UNPACKED:
        raise Permanent(f"file {file.name}: {place(answer.url)} sent it in a Content-Encoding that was not asked for")


def _range_start(answer: httpx.Response, offset: int, file: BulkFile) -> int:
    match = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if not offset or not match or int(match[1]) > offset:
        raise FileChanged(f"file {file.name}: the server sent another range than was asked for")
    return offset - int(match[1])


def _refusal(answer: httpx.Response, part: _Part) -> SluiceError:
    status, text = answer.status_code, f"file {part.file.name}: {place(answer.url)} answered {answer.status_code}"
    # An address that is signed instead of guarded by a token answers 400 or 403 when its time is up.
    if status in {404, 410} or (status in {400, 403} and not part.use_token):
        return JobGone(f"{text}: its time is up")
    if status in {429, 502, 503, 504}:
        return _TooMuch(text, retry_after(answer.headers))
    if status in TRANSIENT_STATUS:
        return Transient(text, retry_after(answer.headers))
    return Permanent(text)
