"""A site with feeds over MLLP: a listener on its own event loop, senders on real sockets, the stages behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tasks import work
from tasks.feed import load
from tasks.ledger import claims, counts
from tasks.ledger.db import connect
from tasks.listen.commit import GroupCommit
from tasks.listen.mllp import Listener, door
from tasks.listen.run import committer
from tasks.process.stage import Staged, Stager
from tasks.publish.store import publish
from tasks.publish.tables import refresh

FEED = "source: {{kind: mllp{more}}}\nformat: hl7v2\ntimezone: America/New_York\n"


def message(control: str = "C1", *, mrn: str = "1001", family: str = "Okafor", **header: str) -> bytes:
    """An ADT^A01; `header` gives MSH fields as msh15="AL"."""
    when = "20260309100000-0500"
    said = ["MSH", "^~\\&", "ADT", "NORTH", "SLUICE", "HUB", when, "", "ADT^A01^ADT_A01", control, "P", "2.5.1"]
    said += [""] * (21 - len(said))
    for name, value in header.items():
        said[int(name.removeprefix("msh")) - 1] = value
    segments = [
        "|".join(said).rstrip("|"),
        f"EVN|A01|{when}",
        f"PID|1||{mrn}^^^NORTHSIDE^MR||{family}^Ada||19800101|F",
        f"PV1|1|I|W^1^1^NORTH|||||||||||||||||V{mrn}^^^NORTHSIDE^VN",
    ]
    return "".join(segment + "\r" for segment in segments).encode()


def block(data: bytes) -> bytes:
    return b"\x0b" + data + b"\x1c\r"


class Sender:
    """A partner's side of one connection."""

    def __init__(self, port: int, context: Any = None, patience: float = 30) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, data: bytes) -> bytes:
        self.write(block(data))
        return self.answer()

    def answer(self) -> bytes:
        """The next acknowledgement without its block; raises `ConnectionError` where the listener hung up."""
        while b"\x1c\r" not in self.rest:
            got = self.socket.recv(65536)
            if not got:
                raise ConnectionError
            self.rest += got
        one, _, self.rest = self.rest.partition(b"\x1c\r")
        assert one[:1] == b"\x0b"
        return one[1:]

    def is_closed(self) -> bool:
        """Wait until the listener has hung up; anything that still comes means that it has not."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for a while."""
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(30)

    def close(self) -> None:
        self.socket.close()


def msa(answer: bytes) -> tuple[str, str]:
    """The code and the control id of an acknowledgement."""
    line = next(part for part in answer.split(b"\r") if part.startswith(b"MSA"))
    fields = line.decode().split("|")
    return fields[1], fields[2] if len(fields) > 2 else ""


def field_of(answer: bytes, segment: str, number: int) -> str:
    line = next(part for part in answer.decode().split("\r") if part.startswith(segment))
    fields = line.split("|")
    index = number - 1 if segment == "MSH" else number
    return fields[index] if index < len(fields) else ""


class Running:
    """A listener that runs on a thread's event loop."""

    def __init__(self, feeds: Sequence[str]) -> None:
        self.feeds = [load(name) for name in feeds]
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.commit: GroupCommit = committer(self.feeds)
        self.listener = Listener(self.commit, [door(feed) for feed in self.feeds])
        try:
            self._do(self.listener.start("127.0.0.1", 0))
        except BaseException:
            self.stop()
            raise
        self.port = self.listener.port
        self.senders: list[Sender] = []

    def sender(self, context: Any = None) -> Sender:
        made = Sender(self.port, context)
        self.senders.append(made)
        return made

    def stop(self) -> None:
        if not self.loop.is_closed():
            self._do(self.listener.stop())
            self.commit.stop()
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)


@dataclass
class Site:
    """Feeds, their listener and what stands in the warehouse."""

    url: str
    feeds: Path
    feed: str = "northside.adt"
    running: list[Running] = field(default_factory=list)
    senders: list[Sender] = field(default_factory=list)

    def sender(self, port: int) -> Sender:
        """A sender to a listener that is another process."""
        made = Sender(port)
        self.senders.append(made)
        return made

    def configure(self, more: str = "", feed: str | None = None, rest: str = "") -> None:
        text = FEED.format(more=f", {more}" if more else "") + rest
        (self.feeds / f"{feed or self.feed}.yaml").write_text(text)
        work.pipeline.cache_clear()

    def listen(self, *feeds: str) -> Running:
        made = Running(feeds or (self.feed,))
        self.running.append(made)
        return made

    def stage(self, token: int, limit: int = 10_000) -> Staged:
        stager = Stager(load(self.feed), work.landing(), work.pipeline(self.feed))
        with connect(self.url) as reader, connect(self.url) as writer:
            return stager.stage(reader, writer, token, limit, "run")

    def take(self, limit: int = 10_000) -> dict[str, int]:
        """Take what was landed through the stages; return the counts of all deliveries."""
        with claims.claim(self.url, f"feed:{self.feed}", "run", 60) as token:
            while (staged := self.stage(token, limit)).read:
                if staged.batch_id is not None:
                    with connect(self.url) as connection:
                        publish(connection, staged.batch_id, token, refresh, "run")
        with connect(self.url) as connection:
            return counts.total(counts.of_feed(connection))

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), params).fetchall()

    def stop(self) -> None:
        for one in self.running:
            one.stop()
            self.senders += one.senders
        for sender in self.senders:
            sender.close()
