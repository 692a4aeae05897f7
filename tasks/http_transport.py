"""The way to the socket: reads as much as is there, and limits a whole request.

A server that sends a byte now and then never runs into a timeout for each read.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


READ = 1 << 18
"""Bytes of one read at most: httpcore's own 64 KB make a large download half as fast again."""


class Transport(httpx.HTTPTransport):
    """An HTTP transport on which a request and its answer, read in the same thread, take `seconds` at most."""

    def __init__(self, verify: ssl.SSLContext, limits: httpx.Limits, seconds: float | None = None) -> None:
        super().__init__(verify=verify, limits=limits)
        self._seconds = float("inf") if seconds is None else seconds
        self._mine = threading.local()
        self._pool.close()
        # httpx has no setting for httpcore's network backend, which is httpcore's own place for such a thing
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_Backend(self._mine),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Begin to count, and send."""
        self._mine.until = time.monotonic() + self._seconds
        return super().handle_request(request)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, mine: threading.local) -> None:
        self._mine = mine
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        found = self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(found, self._mine)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, mine: threading.local) -> None:
        self._inner, self._mine = inner, mine

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._left()
        if left <= 0:
            raise httpcore.ReadTimeout
        least = left if timeout is None else min(timeout, left)
        return self._inner.read(max(max_bytes, READ), None if least == float("inf") else least)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._mine)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def _left(self) -> float:
        until: float = getattr(self._mine, "until", float("inf"))
        return until - time.monotonic()
