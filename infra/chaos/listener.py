"""`sluice listen` as a process that is begun again whenever it died, and the partner that sends to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Literal

import psutil

from infra.chaos import sender
from infra.chaos.world import wait_for
from infra.dev.process import held_port
from tasks.settings import PROJECT

START_SECONDS = 120
_MAIN = "from deployments.cli.main import main; main()"


class Listener:
    """A listener of one feed; `begun` counts its processes."""

    def __init__(self, kind: Literal["mllp", "http"], feed: str, env: Mapping[str, str]) -> None:
        self.kind, self.feed, self.env = kind, feed, env
        self.held = held_port()
        self.port, self.begun = self.held.getsockname()[1], 0
        self.process: subprocess.Popen[bytes] | None = None

    def send(self, messages: Sequence[bytes]) -> int:
        """Send messages until each is acknowledged, whatever becomes of the listener; return how many repetitions."""
        self.begin()
        if self.kind == "mllp":
            return sender.mllp(self.port, messages, self.begin)
        return sender.post(self.port, self.feed, messages, self.begin)

    def begin(self) -> int:
        """Start the listener where it does not run; return its process's id. Raises `RuntimeError`."""
        if self.process is None or self.process.poll() is not None:
            self.begun += 1
            self.process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, "listen", self.kind, self.feed, "--port", str(self.port)],
                cwd=PROJECT,
                env={**os.environ, **self.env, "PYTHONPATH": str(PROJECT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if not wait_for(self._is_up, START_SECONDS):
                raise RuntimeError(f"the {self.kind} listener does not come up")
        return self.process.pid

    def _is_up(self) -> bool:
        """Say whether the process itself listens: somebody else may have been quicker to take the port."""
        assert self.process is not None  # noqa: S101 - it has been started
        with suppress(psutil.NoSuchProcess):
            held = psutil.Process(self.process.pid).net_connections("tcp")
            return any(one.status == psutil.CONN_LISTEN and one.laddr.port == self.port for one in held)
        return False

    def end(self) -> None:
        """End the process, also one that stands still, and give its port back."""
        self.held.close()
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            self.process.kill()
            self.process.wait()
