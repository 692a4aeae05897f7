"""The MLLP listener: frames, lands durably, acknowledges; nothing else happens before the acknowledgement.

HL7 v2 chapter 2, "Message Processing Rules"; MLLP, Transport Specification, releases 1 and 2.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from time import monotonic

from tasks.errors import ConfigError
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.listen import ack, metrics
from tasks.listen.commit import GroupCommit, Item, Outcome, hashed
from tasks.listen.frames import FS, VT, Block, Cutter, NotMllp, TooLarge
from tasks.listen.tls import names, server_context, wanted
from tasks.log import get_logger
from tasks.settings import connection
from tasks.source.mllp import MllpOptions
from tasks.source.pushed import duration_seconds

WAITING = 256
"""Messages of one connection that may wait for their commit before no more is read of it."""
WAITING_BYTES = 8 << 20
HELD_BYTES = 512 << 20
"""Bytes of unfinished messages that all connections together may hold."""
END_SECONDS = 0.5
"""How long the carriage return after an end byte is waited for."""
FAREWELL_SECONDS = 5

_serials = count(1)


@dataclass(slots=True)
class Reply:
    """The place of an answer in the order of its connection's messages; `frames` is None while it is not known."""

    size: int
    frames: list[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Door:
    """A feed as connections meet it."""

    feed: Feed
    options: MllpOptions
    window: float
    idle: float
    frame: float
    certificates: frozenset[str]


def door(feed: Feed) -> Door:
    """Return a feed's door; raises `ConfigError` where the feed is not one of MLLP."""
    options = feed.source
    if not isinstance(options, MllpOptions):
        raise ConfigError(f"{feed.name}: its source is `{feed.source.kind}`, and `sluice listen mllp` needs `mllp`")
    window, idle, frame = map(duration_seconds, (options.window, options.idle, options.frame))
    return Door(feed, options, window, idle, frame, frozenset(wanted(options.certificates)))


@dataclass(slots=True)
class Listener:
    """One port and the feeds behind it."""

    commit: GroupCommit
    doors: Sequence[Door]
    connections: set[Connection] = field(default_factory=set)
    per_feed: Counter[str] = field(default_factory=Counter)
    held: int = 0
    stopping: bool = False
    server: asyncio.Server | None = None
    sweeper: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self.server is not None  # noqa: S101
        return int(self.server.sockets[0].getsockname()[1])

    async def start(self, host: str, port: int) -> None:
        """Listen; raises `ConfigError` where the port cannot be had or TLS is not set up."""
        context = _context(self.doors)
        loop = asyncio.get_running_loop()
        try:
            self.server = await loop.create_server(
                lambda: Connection(self),
                host,
                port,
                backlog=1024,
                reuse_address=True,
                ssl=context,
                ssl_handshake_timeout=20 if context else None,
                ssl_shutdown_timeout=5 if context else None,
            )
        except OSError as error:
            raise ConfigError(f"mllp: {host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}") from None
        self.sweeper = loop.create_task(self._sweep())

    async def stop(self, patience: float = 20) -> None:
        """Take no more, answer what has been taken, close; what was not whole was never acknowledged."""
        self.stopping = True
        if self.server:
            self.server.close()
        if self.sweeper:
            self.sweeper.cancel()
        until = monotonic() + patience
        for one in self.connections:
            one.hold()
        while any(one.owes for one in self.connections) and monotonic() < until:
            await asyncio.sleep(0.01)
        for one in list(self.connections):
            one.close()
        while self.connections and monotonic() < until:
            await asyncio.sleep(0.01)
        for one in list(self.connections):
            one.abort()

    async def _sweep(self) -> None:
        """Close connections that are silent for too long, or that take too long over one message."""
        while True:
            await asyncio.sleep(1)
            now = monotonic()
            for one in list(self.connections):
                one.sweep(now)


class Connection(asyncio.Protocol):
    """One sender: its bytes come in here, its answers leave in the order of its messages."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.loop = asyncio.get_running_loop()
        self.door: Door = listener.doors[0]
        self.transport: asyncio.Transport | None = None
        self.cutter = Cutter(self.door.options.max_message)
        self.replies: deque[Reply] = deque()
        self.heard = self.began = monotonic()
        self.ended = self.over = self.held_back = self.blocked = False
        self.counted = 0
        self.waiting_bytes = 0
        self.log = get_logger(connection=next(_serials))

    @property
    def owes(self) -> bool:
        """Whether an answer is outstanding or not sent yet."""
        return bool(self.replies) or bool(self.transport and self.transport.get_write_buffer_size())

    # -- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self.transport = transport
        chosen = _choose(self.listener.doors, transport)
        if chosen is None or self.listener.stopping:
            self._turn_away("certificate" if chosen is None else "stopping")
            return
        self.door = chosen
        self.cutter.limit = chosen.options.max_message
        self.log = self.log.bind(feed=chosen.feed.name)
        if self.listener.per_feed[chosen.feed.name] >= chosen.options.max_connections:
            self._turn_away("connections")
            return
        self.listener.connections.add(self)
        self.listener.per_feed[chosen.feed.name] += 1
        metrics.CONNECTIONS.labels(chosen.feed.name).inc()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.cutter.inside:
            # cut off inside a message: the sender was told nothing and sends it again
            metrics.REFUSED.labels(self.door.feed.name, "cut").inc()
        self.replies.clear()
        self._hold_bytes(0)
        if self in self.listener.connections:
            self.listener.connections.discard(self)
            self.listener.per_feed[self.door.feed.name] -= 1
            metrics.CONNECTIONS.labels(self.door.feed.name).dec()

    def data_received(self, data: bytes) -> None:
        if self.ended or self not in self.listener.connections:
            return
        now = monotonic()
        self.heard = now
        was_inside = self.cutter.inside
        try:
            for block in self.cutter.feed(data):
                was_inside = False
                self._take(block)
        except NotMllp:
            self._end("not-mllp", None)
            return
        except TooLarge as error:
            self._end("message-too-large", error.start)
            return
        if not was_inside:
            self.began = now
        self._hold_bytes(self.cutter.held)
        if self.listener.held > HELD_BYTES and self.cutter.held > WAITING_BYTES:
            self._end("memory", None)
            return
        if self.cutter.may_end:
            self.loop.call_later(END_SECONDS, self._perhaps_ended, now)
        self._pace()

    def eof_received(self) -> bool:
        """The sender has said all: what it is owed is still sent."""
        block = self.cutter.finish()
        if block:
            self._take(block)
        self.ended = self.over = True
        self._send()
        return True

    def pause_writing(self) -> None:
        self.blocked = True
        self._pace()

    def resume_writing(self) -> None:
        self.blocked = False
        self._pace()

    # -- what the listener calls --------------------------------------------------------------------------------

    def hold(self) -> None:
        """Read no more: the process is about to stop."""
        self.ended = True
        if self.transport and not self.transport.is_closing():
            self.transport.pause_reading()

    def close(self) -> None:
        """Close when what was written has left."""
        if self.transport:
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport:
            self.transport.abort()

    def sweep(self, now: float) -> None:
        """Close where the sender is too slow or too silent; it is owed nothing."""
        slow = self.cutter.inside and not self.held_back and now - self.began > self.door.frame
        idle = not self.replies and not self.cutter.inside and now - self.heard > self.door.idle
        if slow or idle:
            metrics.REFUSED.labels(self.door.feed.name, "slow" if slow else "idle").inc()
            self.log.info("connection closed", why="slow" if slow else "idle")
            self.abort() if slow else self.close()

    # -- a message ----------------------------------------------------------------------------------------------

    def _take(self, block: Block) -> None:
        feed, options = self.door.feed.name, self.door.options
        metrics.RECEIVED.labels(feed, "mllp").inc()
        header = ack.read_header(block.data)
        reply = Reply(len(block.data))
        self.replies.append(reply)
        self.waiting_bytes += reply.size
        why = ack.refusal(header, options.messages, options.processing)
        if why or header is None:
            self._refuse(reply, header, why or ack.NO_HEADER)
            return
        came = monotonic()
        metrics.IN_FLIGHT.labels(feed).inc()

        def done(outcome: Outcome) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
                self.loop.call_soon_threadsafe(self._done, reply, header, outcome, came)

        control = header.control or hashed(feed, block.data)
        self.listener.commit.put(
            Item(
                feed=feed,
                control=hashed(feed, header.field(3), header.field(4), control),
                digest=hashed(feed, block.data),
                data=block.landed(),
                window=self.door.window,
                unique=options.control_id == "unique",
                done=done,
            )
        )

    def _done(self, reply: Reply, header: ack.Header, outcome: Outcome, came: float) -> None:
        feed = self.door.feed.name
        metrics.IN_FLIGHT.labels(feed).dec()
        metrics.COMMIT_SECONDS.labels(feed).observe(monotonic() - came)
        if outcome.status in ("conflict", "failed"):
            self._refuse(reply, header, ack.DUPLICATE if outcome.status == "conflict" else ack.NOT_NOW)
            return
        assert outcome.at is not None  # noqa: S101
        if outcome.status == "again":
            metrics.REFUSED.labels(feed, "again").inc()
        # made of what the ledger keeps, so that a repetition gets the same bytes
        name = f"{outcome.delivery_id:x}.{outcome.start:x}"
        self._answer(reply, ack.accepted(header, name, outcome.at, application=self.door.options.application_ack))

    def _refuse(self, reply: Reply, header: ack.Header | None, why: ack.Refusal) -> None:
        metrics.REFUSED.labels(self.door.feed.name, str(why.code)).inc()
        self.log.info("message refused", code=why.code, field=why.field)
        self._answer(reply, ack.refused(header, why, f"R{next(_serials):x}", datetime.now(UTC)))

    def _answer(self, reply: Reply, messages: list[bytes]) -> None:
        reply.frames = messages
        self._send()

    def _send(self) -> None:
        """Write the answers whose turn it is."""
        out = bytearray()
        while self.replies and self.replies[0].frames is not None:
            reply = self.replies.popleft()
            self.waiting_bytes -= reply.size
            for message in reply.frames or ():
                metrics.ACKNOWLEDGED.labels(self.door.feed.name, _code(message)).inc()
                out += VT + message + FS + b"\r"
        if self.transport and not self.transport.is_closing():
            if out:
                self.transport.write(bytes(out))
                reached("acknowledged")
            if self.ended and not self.replies and not self.listener.stopping:
                self._farewell(self.transport)
            self._pace()

    def _farewell(self, transport: asyncio.Transport) -> None:
        """Close; a sender that still sends is listened to for a while, or it would lose its answer with the reset."""
        if self.over or not transport.can_write_eof():
            transport.close()
        else:
            transport.write_eof()
            self.loop.call_later(FAREWELL_SECONDS, transport.abort)

    # -- limits -------------------------------------------------------------------------------------------------

    def _perhaps_ended(self, heard: float) -> None:
        """The carriage return of an end did not come: the message ends all the same."""
        if self.heard == heard and not self.ended and (block := self.cutter.finish()):
            self._take(block)
            self._hold_bytes(0)

    def _pace(self) -> None:
        """Read no more of a sender that does not wait, or that does not read its answers."""
        full = self.blocked or len(self.replies) > WAITING or self.waiting_bytes > WAITING_BYTES
        if self.transport is None or self.transport.is_closing() or self.ended or full == self.held_back:
            return
        self.held_back = full
        if full:
            self.transport.pause_reading()
        else:
            self.began = monotonic()
            self.transport.resume_reading()

    def _hold_bytes(self, now: int) -> None:
        self.listener.held += now - self.counted
        self.counted = now

    def _turn_away(self, reason: str) -> None:
        metrics.REFUSED.labels(self.door.feed.name, reason).inc()
        self.log.info("connection refused", why=reason)
        self.abort()

    def _end(self, reason: str, start: bytes | None) -> None:
        """Refuse what comes and close, since the next message's beginning cannot be told."""
        self.ended = True
        self.cutter = Cutter(self.door.options.max_message)
        self._hold_bytes(0)
        metrics.REFUSED.labels(self.door.feed.name, reason).inc()
        self.log.info("connection closed", why=reason)
        if start is not None:
            reply = Reply(0)
            self.replies.append(reply)
            self._refuse(reply, ack.read_header(start), ack.TOO_LARGE)
        else:
            self._send()


def _code(message: bytes) -> str:
    """The acknowledgement code of a message that was built here."""
    line = message.split(b"\r", 2)[1]
    return line[4:6].decode("ascii")


def _choose(doors: Sequence[Door], transport: asyncio.BaseTransport) -> Door | None:
    """Return the feed that a connection belongs to, by its certificate where feeds name certificates."""
    socket: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    known = names(transport.get_extra_info("peercert"), socket.getpeercert(binary_form=True)) if socket else set()
    for one in doors:
        if one.certificates & known or not one.certificates:
            return one
    return None


def _context(doors: Sequence[Door]) -> ssl.SSLContext | None:
    """Return the port's TLS; raises `ConfigError` where its feeds do not agree."""
    first = doors[0]
    if len(doors) > 1 and not all(one.certificates for one in doors):
        raise ConfigError("mllp: several feeds on one port are told apart by `certificates`; one of them names none")
    if len({(one.options.tls, one.options.connection if one.options.tls else None) for one in doors}) > 1:
        raise ConfigError("mllp: feeds on one port have the same `tls` and `connection`")
    if not first.options.tls:
        if any(one.certificates for one in doors):
            raise ConfigError(f"{first.feed.name}: `certificates` need `tls: true`")
        return None
    mutual = any(one.certificates for one in doors)
    return server_context(connection(first.options.connection), first.feed.name, mutual=mutual)
