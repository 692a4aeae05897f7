"""An HL7 v2 receiver over MLLP (`kind: mllp`): one message at a time, the next when this one is acknowledged.

The queue is the outbox: a message that is not acknowledged stays there. Source: HL7 v2 chapter 2, 2.9 ("Message
processing rules"); MLLP release 1 and 2.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from tasks.deliver.hl7v2_batch import message as passed
from tasks.deliver.hl7v2_messages import MESSAGES, Charset, Header, Kind, Told, Writer
from tasks.deliver.port import DestinationOptions, Item, Outcome, Store
from tasks.errors import ConfigError
from tasks.http import Retry
from tasks.listen.ack import read_header
from tasks.listen.frames import FS, VT
from tasks.listen.tls import load_chain, pem
from tasks.model import Finding

GOOD = {"AA", "CA"}
BAD = {"AE", "AR", "CE", "CR"}
_LONGEST = 1 << 20
"""Bytes of an acknowledgement after which the other side does not speak MLLP."""
_CODE = re.compile(r"\d{1,3}")
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}")


class MllpOptions(DestinationOptions):
    """A destination's file with `kind: mllp`.

    - The connection holds `host`, `port` and, for TLS, `ca`, `certificate` and `key` (PEM, or paths to it).
    - `send: pass` sends messages as they came; else they are written from the store, those of `messages`, with `header`
      and in `charset`.
    - `tls: true` encrypts and checks the server's certificate and name.
    - `timeout` is in seconds for an acknowledgement, `attempts` how often a message is sent before the queue waits.
    - `application_ack: true` waits for AA, AE or AR behind a CA.
    """

    messages: tuple[Kind, ...] = MESSAGES
    header: Header = Header()
    charset: Charset = "utf-8"
    tls: bool = False
    timeout: float = Field(default=30.0, gt=0)
    attempts: int = Field(default=3, ge=1, le=20)
    backoff: float = Field(default=0.5, gt=0)
    application_ack: bool = False


class Unanswered(Exception):
    """No acknowledgement came: nobody knows whether the message arrived."""


class MllpDestination:
    """Sends messages to one receiver over one connection, in order."""

    Options: ClassVar[type[DestinationOptions]] = MllpOptions

    def __init__(self, options: MllpOptions, connection: Mapping[str, str]) -> None:
        if not connection.get("host") or not connection.get("port", "").isdigit():
            raise ConfigError("kind: mllp needs `host` and `port` among the connection's values")
        self._address = (connection["host"], int(connection["port"]))
        self._tls = _context(connection) if options.tls else None
        self._options = options
        self._writer = Writer(options.header, options.charset, options.messages)
        self._retry = Retry(options.attempts, options.backoff, 30.0)
        self._socket: socket.socket | None = None
        self._read = b""

    def use(self, store: Store) -> None:
        """Take the store: what goes with a resource is looked up there."""
        self._writer.store = store

    def send(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Send a message for each item and yield its outcome; when one is not acknowledged the rest waits behind it."""
        stopped: Outcome | None = None
        for told in self._told(items):
            if told.outcome is not None:
                yield told.outcome
            elif stopped is not None:
                yield Outcome(told.item, "retry", stopped.code)
            else:
                outcome = self._one(told)
                stopped = outcome if outcome.status == "retry" else None
                yield outcome

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._read = None, b""

    def _told(self, items: Sequence[Item]) -> Iterator[Told]:
        if self._options.send == "resources":
            yield from self._writer.tell(items)
            return
        for item in items:
            data = passed(item)
            header = read_header(data) if data else None
            if data is None or header is None or not header.control:
                finding = Finding("not-hl7v2" if data is None else "no-control-id", "MSH-10", "error")
                yield Told(item, outcome=Outcome(item, "refused", "not-sent", finding))
            else:
                # unchanged: the bytes of the message itself, without what a file or a stream put around it
                yield Told(item, data, header.control.decode("latin-1"))

    def _one(self, told: Told) -> Outcome:
        code = "no-answer"
        for attempt in range(1, self._options.attempts + 1):
            try:
                return self._acknowledged(told)
            except (OSError, Unanswered) as error:
                code = "no-acknowledgement" if isinstance(error, Unanswered | TimeoutError) else "no-connection"
                self.close()
                if isinstance(error, ssl.SSLCertVerificationError):
                    raise ConfigError("mllp: the receiver's certificate is not trusted; name its CA in `ca`") from None
            if attempt < self._options.attempts:
                time.sleep(self._retry.delay(attempt))
        return Outcome(told.item, "retry", code)

    def _acknowledged(self, told: Told) -> Outcome:
        """Send, and wait for the acknowledgement of this very message; another one is a late one and passed over."""
        until = time.monotonic() + self._options.timeout
        self._connect().sendall(VT + told.data + FS + b"\r")
        while True:
            answer = _Answer(self._block(until))
            if answer.control != told.control or answer.code not in GOOD | BAD:
                continue
            if answer.code == "CA" and self._options.application_ack:
                continue
            if answer.code in GOOD:
                return Outcome(told.item, "sent", answer.code)
            return Outcome(told.item, "refused", answer.code, answer.finding())

    def _connect(self) -> socket.socket:
        if self._socket is None:
            plain = socket.create_connection(self._address, timeout=min(self._options.timeout, 15.0))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._socket = self._tls.wrap_socket(plain, server_hostname=self._address[0]) if self._tls else plain
            except BaseException:
                plain.close()
                raise
            self._read = b""
        return self._socket

    def _block(self, until: float) -> bytes:
        """Return the next block's bytes; raises `Unanswered` where none comes in time."""
        connection = self._connect()
        while FS not in self._read:
            left = until - time.monotonic()
            if left <= 0:
                raise Unanswered
            connection.settimeout(left)
            more = connection.recv(65536)
            if not more or len(self._read) > _LONGEST:
                raise Unanswered
            self._read += more
        block, _, self._read = self._read.partition(FS)
        return block.rpartition(VT)[2]


class _Answer:
    """What is read of an acknowledgement: MSA-1, MSA-2 and the places and codes of its errors, never a text."""

    def __init__(self, data: bytes) -> None:
        header = read_header(data)
        mark = header.separator if header else b"|"
        self._component = header.component if header else b"^"
        lines = [line.split(mark) for line in data.replace(b"\n", b"\r").split(b"\r")]
        msa = next((line for line in lines if line[0] == b"MSA"), [])
        self._err = next((line for line in lines if line[0] == b"ERR"), [])
        self.code = _field(msa, 1)
        self.control = _field(msa, 2)

    def finding(self) -> Finding:
        """Return the error's number (HL7 table 0357) and place, `PID-3`, as far as they have the form of such."""
        number = _field(self._err, 3).partition(self._component.decode("latin-1"))[0]
        place = _field(self._err, 2).split(self._component.decode("latin-1"))
        named = _SEGMENT.fullmatch(place[0]) is not None
        where = f"{place[0]}-{place[2]}" if named and len(place) > 2 and place[2].isdigit() else place[0]
        return Finding(
            f"hl7-{number if _CODE.fullmatch(number) else self.code}", where if named else "message", "error"
        )


def _field(line: Sequence[bytes], number: int) -> str:
    return line[number].decode("latin-1") if len(line) > number else ""


def _context(values: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context()
        if values.get("ca"):
            context = ssl.create_default_context(cadata=pem(values["ca"]))
        if values.get("certificate"):
            load_chain(context, pem(values["certificate"]), pem(values.get("key", values["certificate"])))
    except (OSError, ValueError):
        raise ConfigError("mllp: ca, certificate or key cannot be read or do not fit together") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
