"""A partner's side of MLLP and HTTP that never gives up: a message is sent until it is acknowledged, then the next."""

from __future__ import annotations

import hashlib
import http.client
import socket
import time
from collections.abc import Callable, Sequence

ANSWER_SECONDS = 3.0
PATIENCE = 120.0


def mllp(port: int, messages: Sequence[bytes], again: Callable[[], object]) -> int:
    """Send HL7 messages in their order; return how often one had to be sent again. `again` brings the listener back.

    Raises `TimeoutError` where a message is not acknowledged in two minutes.
    """
    connection: socket.socket | None = None

    def once(message: bytes) -> None:
        nonlocal connection
        try:
            connection = connection or socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS)
            connection.sendall(b"\x0b" + message + b"\x1c\r")
            _answer(connection)
        except OSError:
            if connection:
                connection.close()
            connection = None
            raise

    try:
        return _until_acknowledged(messages, once, again)
    finally:
        if connection:
            connection.close()


def post(port: int, feed: str, bodies: Sequence[bytes], again: Callable[[], object]) -> int:
    """Post FHIR Bundles as `mllp` sends messages; a body keeps its `Idempotency-Key` however often it is posted."""

    def once(body: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        key = hashlib.sha256(body).hexdigest()
        headers = {"Content-Type": "application/fhir+json", "Idempotency-Key": key}
        try:
            connection.request("POST", f"/{feed}/fhir", body, headers)
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise ConnectionResetError from error
        finally:
            connection.close()
        if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
            raise ConnectionAbortedError
        if status != http.HTTPStatus.ACCEPTED:
            raise RuntimeError(f"{feed}: a Bundle was answered with {status}")

    return _until_acknowledged(bodies, once, again)


def _until_acknowledged(messages: Sequence[bytes], once: Callable[[bytes], None], again: Callable[[], object]) -> int:
    repeated = 0
    for message in messages:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                once(message)
                break
            except OSError:
                repeated += 1
                if time.monotonic() > deadline:
                    raise TimeoutError("a message was not acknowledged") from None
                again()
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
