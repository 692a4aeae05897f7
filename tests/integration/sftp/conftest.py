"""An SFTP server, and a network between it and us that breaks where a test wants it to."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.dev.sftp import SftpServer

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpServer]:
    with SftpServer(tmp_path_factory.mktemp("sftp")) as running:
        running.partner("northside")
        yield running


@pytest.fixture
def zone(server: SftpServer) -> Path:
    """An empty folder in the partner's home."""
    made = server.partner("northside") / f"zone{next(_numbers)}"
    made.mkdir()
    return made


class Wire:
    """A TCP relay; `limit` bytes from the server pass on the next connection, then it breaks."""

    def __init__(self, port: int) -> None:
        self.limit: int | None = None
        self.passed = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                limit, self.limit, self.passed = self.limit, None, 0
                threading.Thread(target=self._relay, args=(near, far, None), daemon=True).start()
                threading.Thread(target=self._relay, args=(far, near, limit), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if limit is not None and passed + len(data) > limit:
                    target.sendall(data[: limit - passed])
                    break
                target.sendall(data)
                passed += len(data)
                if target is not source and limit is None:
                    self.passed = max(self.passed, passed)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        for each in self._sockets:
            each.close()


@pytest.fixture
def wire() -> Iterator[Callable[[int], Wire]]:
    with contextlib.ExitStack() as stack:

        def make(port: int) -> Wire:
            made = Wire(port)
            stack.callback(made.close)
            return made

        yield make
