"""A partner's side of MLLP that never gives up: each message is sent until it is acknowledged, then the next."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence

ANSWER_SECONDS = 3.0
PATIENCE = 120.0


def send(port: int, messages: Sequence[bytes], again: Callable[[], None]) -> int:
    """Send messages in their order; return how often one had to be sent again. `again` brings the listener back.

    Raises `TimeoutError` where a message is not acknowledged in two minutes.
    """
    repeated = 0
    connection: socket.socket | None = None
    for message in messages:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection = connection or socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
                connection.sendall(b"\x0b" + message + b"\x1c\r")
                _answer(connection)
                break
            except OSError:
                repeated += 1
                if connection:
                    connection.close()
                connection = None
                if time.monotonic() > deadline:
                    raise TimeoutError("a message was not acknowledged") from None
                again()
    if connection:
        connection.close()
    return repeated


def _answer(connection: socket.socket) -> bytes:
    """Return the answer; raises `OSError` where it did not come whole, or says that nothing was kept (HL70357 207)."""
    data = b""
    while b"\x1c\r" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionResetError
        data += piece
    if b"|207^" in data:
        raise ConnectionAbortedError
    return data
