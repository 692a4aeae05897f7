"""Processes that outlive the command that started them: known by pid and start time, ended with all their children."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started: its pid, its start time (a pid alone may come again), its port."""

    pid: int
    started: float
    port: int

    def json(self) -> dict[str, Any]:
        """Return it as it is kept between commands."""
        return asdict(self)

    def process(self) -> psutil.Process | None:
        """Return the process where it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def spawn(argv: Sequence[str], port: int, env: Mapping[str, str], log: Path, user: str | None = None) -> Running:
    """Start a process in a session of its own, its output in a log file that its owner alone can read."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            env=dict(env),
            start_new_session=True,
            user=user,
            group=user,
            cwd="/" if user else None,
        )
    finally:
        os.close(handle)
    # the parent does not wait for it: it is meant to stay
    process.returncode = 0
    return Running(process.pid, psutil.Process(process.pid).create_time(), port)


def stop(running: Running, first: signal.Signals = signal.SIGTERM, patience: float = 15) -> None:
    """End a process and all its descendants: by `first`, and after `patience` seconds by force."""
    process = running.process()
    if process is None:
        return
    family = [*process.children(recursive=True), process]
    with suppress(psutil.NoSuchProcess):
        process.send_signal(first)
    _gone, alive = psutil.wait_procs([process], timeout=patience)
    rest = [one for one in family if one.is_running()]
    for one in rest:
        with suppress(psutil.NoSuchProcess):
            one.terminate() if one not in alive else one.kill()
    for one in psutil.wait_procs(rest, timeout=5)[1]:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(rest, timeout=5)


def free_port(wanted: int) -> int:
    """Return the first port from `wanted` on that nobody listens on at 127.0.0.1."""
    for port in range(wanted, min(wanted + 200, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 that are free now, all different, none of them one that anybody asks for by habit."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def held_port() -> socket.socket:
    """Return a socket that holds a free port of 127.0.0.1 for a server that dies and is begun again: nobody else is
    given it meanwhile. The server binds it beside this socket with `SO_REUSEADDR`, as servers do; close it at last."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def listens(port: int) -> bool:
    """Say whether somebody accepts connections on a port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def holds_port(running: Running) -> bool:
    """Say whether the process or one of its children listens on its port: another one may have been quicker."""
    process = running.process()
    if process is None or not running.port:
        return process is not None
    with suppress(psutil.NoSuchProcess):
        try:
            family = [process, *process.children(recursive=True)]
            sockets = [one for each in family for one in each.net_connections("tcp")]
        except psutil.AccessDenied:
            return True
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == running.port for one in sockets)
    return False


def wait_until(ready: Any, running: Running, seconds: float) -> bool:
    """Wait until `ready()` holds by this process; false where it ended or the time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready() and holds_port(running):
            return True
        if running.process() is None:
            return False
        time.sleep(0.1)
    return False
