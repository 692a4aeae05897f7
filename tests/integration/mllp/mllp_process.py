"""`sluice listen mllp` as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The process, its port, and that of its health pages where it was asked for them."""
    command = [sys.executable, "-c", "from deployments.cli.main import main; main()", "listen", "mllp"]
    with subprocess.Popen(
        [*command, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        try:
            assert running.stdout is not None
            ports = [int(running.stdout.readline().rpartition(":")[2]) for _ in range(1 + len(arguments) // 2)]
            yield running, ports[-1], ports[0]
        finally:
            running.kill()
