"""Group commit: what has come from all connections meanwhile is put on the disk and into the ledger together.

One thread does it. The disk comes before the ledger, so that a row never tells of bytes that are not there, and the
acknowledgement after both.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import psycopg

from tasks.errors import SluiceError, Transient
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.landing.segment import SegmentWriter
from tasks.landing.store import Landing
from tasks.ledger import segments
from tasks.ledger.segments import Arrived, Known
from tasks.log import get_logger

GROUP = 500
"""Messages of the largest group."""
GROUP_BYTES = 16 << 20
GATHER_SECONDS = 0.002
"""How long a group waits for as many as the last two had: less than a flush takes."""
SEGMENT_BYTES = 32 << 20
SEGMENT_SECONDS = 900.0
RECYCLED = "control-id-recycled"

Status = Literal["landed", "again", "conflict", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a message.

    - `landed`: its bytes and their row are durable. `again`: they were before; this is where and when.
    - `conflict`: the control id was used for other bytes, and the feed has it unique. `failed`: nothing is kept.
    """

    status: Status
    delivery_id: int = 0
    start: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A message that waits for its commit; `done` is called by the committing thread."""

    feed: str
    control: bytes
    digest: bytes
    data: bytes
    window: float
    unique: bool
    done: Callable[[Outcome], None]


@dataclass(slots=True)
class _Segment:
    delivery_id: int
    writer: SegmentWriter
    born: float


def hashed(feed: str, *parts: bytes) -> bytes:
    """Return the keyed hash by which the ledger knows a control id or a message."""
    digest = hashlib.blake2b(digest_size=16, key=feed.encode()[:64])
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


class GroupCommit:
    """Takes messages of several feeds; `start` before, `stop` after, which commits what waits and closes all."""

    def __init__(self, url: str, landing: Landing, feeds: Sequence[Feed]) -> None:
        self.feeds: Mapping[str, Feed] = {feed.name: feed for feed in feeds}
        self.ready = False
        self._url = url
        self._landing = landing
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._segments: dict[str, _Segment] = {}
        self._sizes: deque[int] = deque((0,), maxlen=2)
        self._abandoned: list[int] = []
        self._connection: psycopg.Connection[tuple[object, ...]] | None = None
        self._thread = threading.Thread(target=self._run, name="group commit", daemon=True)

    def start(self) -> None:
        """Close what a dead listener left, and begin; raises `Transient` or `Permanent` where Postgres does not."""
        try:
            connection = self._connect()
            for feed in self.feeds.values():
                segments.close_left(connection, feed.name)
        except psycopg.Error as error:
            raise Transient(f"Postgres does not answer (SQLSTATE {error.sqlstate}); see `sluice status`") from None
        self.ready = True
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take a message; returns at once."""
        self._queue.put(item)

    def stop(self) -> None:
        """Commit what waits, close the segments, end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        group = self._take()
        while group:
            for item, outcome in zip(group, self._commit(group), strict=True):
                item.done(outcome)
            group = self._take()
        with suppress(psycopg.Error):
            for name in list(self._segments):
                self._give_up(name)
            self._close_abandoned(self._connect())
        self._drop_connection()

    def _take(self) -> list[Item]:
        """Return the next group; an empty one at the end."""
        first = self._queue.get()
        group: list[Item] = []
        size = 0
        expected, until = sum(self._sizes), time.monotonic() + GATHER_SECONDS
        while first is not None:
            group.append(first)
            size += len(first.data)
            if len(group) >= GROUP or size >= GROUP_BYTES:
                break
            try:
                # senders that were answered together send again together: without the wait they fall into two
                # groups, and each of them waits for the other's flush
                patience = until - time.monotonic() if len(group) < expected else 0.0
                first = self._queue.get(timeout=patience) if patience > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
        else:
            # the end was met behind these: it is put back, to be met alone
            if group:
                self._queue.put(None)
        self._sizes.append(len(group))
        return group

    def _commit(self, group: Sequence[Item]) -> Iterable[Outcome]:
        """Commit a group, a second time where the connection or the disk gave way: then nothing of it was kept."""
        for _ in range(2):
            try:
                return self._try(group)
            except (psycopg.Error, SluiceError) as error:
                code = getattr(error, "sqlstate", None)
                get_logger().error("group not committed", kind=type(error).__name__, sqlstate=code, messages=len(group))
                for name in list(self._segments):
                    self._give_up(name)
                self._drop_connection()
        self.ready = False
        return [Outcome("failed")] * len(group)

    def _try(self, group: Sequence[Item]) -> list[Outcome]:
        connection = self._connect()
        self._close_abandoned(connection)
        at = datetime.now(UTC)
        before: dict[bytes, list[Known]] = {}
        for one in segments.known(connection, {item.control for item in group}):
            before.setdefault(one.control, []).append(one)
        arrived: list[Arrived] = []
        outcomes = [self._place(connection, item, before, arrived, at) for item in group]
        if arrived:
            used = {one.delivery_id for one in arrived}
            open_ones = [segment for segment in self._segments.values() if segment.delivery_id in used]
            sizes = {segment.delivery_id: segment.writer.commit() for segment in open_ones}
            reached("fsynced")
            if segments.commit(connection, sizes, arrived, at) != sizes.keys():
                raise Transient("a segment was closed by another process")
            reached("landed")
            self._roll(connection)
        self.ready = True
        return outcomes

    def _place(
        self,
        connection: psycopg.Connection[tuple[object, ...]],
        item: Item,
        before: dict[bytes, list[Known]],
        arrived: list[Arrived],
        at: datetime,
    ) -> Outcome:
        """Add a message to its feed's segment, unless it came before."""
        since = at - timedelta(seconds=item.window)
        same = [one for one in before.get(item.control, ()) if one.at >= since]
        for one in same:
            if one.digest == item.digest:
                return Outcome("again", one.delivery_id, one.start, one.at)
        if same and item.unique:
            return Outcome("conflict")
        segment = self._segment(connection, item.feed)
        start = segment.writer.add(item.data)
        finding = RECYCLED if same else None
        arrived.append(Arrived(segment.delivery_id, start, item.control, item.digest, finding))
        known = Known(item.control, item.digest, segment.delivery_id, start, at)
        before.setdefault(item.control, []).append(known)
        return Outcome("landed", segment.delivery_id, start, at)

    def _segment(self, connection: psycopg.Connection[tuple[object, ...]], feed: str) -> _Segment:
        if feed not in self._segments:
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:12]}"
            obj, writer = self._landing.segment(feed, name)
            delivery_id = segments.open_segment(connection, self.feeds[feed], name, obj)
            self._segments[feed] = _Segment(delivery_id, writer, time.monotonic())
        return self._segments[feed]

    def _roll(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        """Close segments that are large or old, so that their deliveries come to an end."""
        for name, segment in list(self._segments.items()):
            if segment.writer.size >= SEGMENT_BYTES or time.monotonic() - segment.born >= SEGMENT_SECONDS:
                self._give_up(name)
        # closing them waits for the next group where Postgres gives way now: this group is committed
        with suppress(psycopg.Error):
            self._close_abandoned(connection)

    def _give_up(self, name: str) -> None:
        segment = self._segments.pop(name)
        segment.writer.close()
        self._abandoned.append(segment.delivery_id)

    def _close_abandoned(self, connection: psycopg.Connection[tuple[object, ...]]) -> None:
        while self._abandoned:
            segments.close(connection, self._abandoned[0])
            self._abandoned.pop(0)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=5, application_name="sluice listener"
            )
        return self._connection

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
