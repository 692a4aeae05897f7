"""Files that are uploaded: streamed into landing as they come, in the ledger before they are answered (RFC 7578)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import PurePosixPath, PureWindowsPath

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from tasks.feed import Feed
from tasks.landing.store import Landed, Landing
from tasks.ledger import deliveries
from tasks.ledger.db import connect
from tasks.listen.fhir_body import Bad
from tasks.model import Offer

SILENT_SECONDS = 120
"""How long an upload may pause."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A file that was kept: its delivery, what it is beside earlier ones, and what its sender can check."""

    name: str
    delivery: int
    verdict: str
    size: int
    sha256: str


@dataclass(slots=True)
class _Parts:
    """Turns the parser's callbacks into (name, None) where a file begins and (None, bytes) for what is in it."""

    events: list[tuple[str | None, bytes]] = field(default_factory=list)
    headers: dict[str, bytearray] = field(default_factory=dict)
    key: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    is_file: bool = False
    ended: bool = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self.headers.clear,
            "on_header_field": lambda data, start, end: self.key.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self.value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._begin,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def _header(self) -> None:
        self.headers[self.key.decode("latin-1").lower()] = self.value
        self.key, self.value = bytearray(), bytearray()

    def _begin(self) -> None:
        said = Message()
        said["Content-Disposition"] = self.headers.get("content-disposition", bytearray()).decode("utf-8", "replace")
        name = said.get_filename()
        self.is_file = name is not None
        if name is not None:
            self.events.append((file_name(name), b""))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.is_file:
            self.events.append((None, data[start:end]))

    def _end(self) -> None:
        self.ended = True


def file_name(said: str) -> str:
    """Return the last part of a name as it is kept; raises `Bad` where nothing is left of it."""
    name = PureWindowsPath(PurePosixPath(said).name).name
    name = "".join(letter for letter in name if letter.isprintable()).strip()[:200]
    if name in {"", ".", ".."}:
        raise Bad(400, "value", "a file needs a name")
    return name


async def files(chunks: AsyncIterator[bytes], boundary: str, limit: int) -> AsyncIterator[tuple[str | None, bytes]]:
    """Yield (name, b"") where a file begins, (None, bytes) for its contents; raises `Bad`."""
    parts = _Parts()
    parser = MultipartParser(boundary.encode("latin-1", "replace"), parts.callbacks())  # type: ignore[arg-type]
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise Bad(413, "too-long", "the upload is larger than this feed takes")
        try:
            parser.write(chunk)
        except MultipartParseError:
            raise Bad(400, "structure", "the body is not multipart/form-data") from None
        events, parts.events = parts.events, []
        for event in events:
            yield event
    if not parts.ended:
        raise Bad(400, "incomplete", "the upload ends before its last boundary; nothing of its last file was kept")


class Uploads:
    """Lands uploads of one feed."""

    def __init__(self, feed: Feed, url: str, landing: Landing) -> None:
        self.feed, self.url, self.landing = feed, url, landing

    async def take(self, events: AsyncIterator[tuple[str | None, bytes]]) -> list[Taken]:
        """Land every file of an upload and return what became of each; raises `Bad`, `Transient`, `Permanent`.

        Files before the one that broke off stay landed: they were whole.
        """
        taken: list[Taken] = []
        name, event = "", await anext(events, None)
        while event is not None:
            name = event[0] or name
            file = _File(events)
            taken.append(await self._file(name, file))
            event = (file.following, b"") if file.following else None
        if not taken:
            raise Bad(400, "required", "the upload holds no file: a part with a filename is needed")
        return taken

    async def _file(self, name: str, file: _File) -> Taken:
        offer = Offer(name, uuid.uuid4().hex)
        delivery = await asyncio.to_thread(self._open, offer)
        try:
            loop = asyncio.get_running_loop()
            kept = await asyncio.to_thread(self.landing.write, self.feed.name, str(delivery), _pulled(file, loop))
            verdict = await asyncio.to_thread(self._landed, delivery, kept)
        except BaseException:
            await asyncio.to_thread(self._withdraw, delivery)
            raise
        return Taken(name, delivery, verdict, kept.size, kept.sha256.hex())

    def _open(self, offer: Offer) -> int:
        with connect(self.url) as connection:
            return deliveries.open_delivery(connection, self.feed, offer, None)

    def _landed(self, delivery: int, kept: Landed) -> str:
        with connect(self.url) as connection, connection.transaction():
            replaces = self.feed.on_correction == "replace"
            verdict = deliveries.landed(connection, delivery, kept.object, kept.size, kept.sha256, replaces=replaces)
            deliveries.finished(connection, delivery)
        return verdict

    def _withdraw(self, delivery: int) -> None:
        with connect(self.url) as connection:
            deliveries.withdraw(connection, delivery)


class _File:
    """The contents of the file at hand; `following` is the next one's name after it has ended."""

    def __init__(self, events: AsyncIterator[tuple[str | None, bytes]]) -> None:
        self.events = events
        self.following: str | None = None

    async def next(self) -> bytes | None:
        """Return some more of the file, None at its end; raises `Bad` where the sender falls silent."""
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                event = await anext(self.events, None)
        except TimeoutError:
            raise Bad(408, "timeout", "the upload paused for too long; nothing of this file was kept") from None
        if event is None:
            return None
        self.following = event[0]
        return None if event[0] is not None else event[1]


def _pulled(file: _File, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The file's bytes for a thread, pulled from the event loop one chunk at a time: nothing piles up."""
    while (chunk := asyncio.run_coroutine_threadsafe(file.next(), loop).result()) is not None:
        yield chunk
