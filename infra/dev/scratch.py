"""A Postgres for the length of a block: for checks that must touch nobody's data."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.dev import postgres
from tasks.errors import Transient

_PATIENCE = 60.0


@contextmanager
def scratch_postgres(*, durable: bool = True) -> Iterator[str]:
    """Yield the libpq URL of a new, empty server, gone after the block; raises `Transient` where it does not start.

    Who measures wants it `durable`, as in production; who only tests is quicker without.
    """
    folder = Path(tempfile.mkdtemp(prefix="sluice-scratch-"))
    password = secrets.token_urlsafe(24)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    try:
        postgres.prepare(folder / "data", password)
        user = postgres.system_user()
        server = subprocess.Popen(
            postgres.command(folder / "data", port, durable=durable),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            group=user,
            cwd="/",
        )
        try:
            address = postgres.url(port, password, "postgres")
            _wait(server, address)
            yield address
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: subprocess.Popen[bytes], address: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not postgres.answers(address):
        if server.poll() is not None or time.monotonic() > deadline:
            raise Transient("the scratch Postgres did not start; nothing was changed, try again")
        time.sleep(0.1)
