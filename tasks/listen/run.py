"""Runs a listener until it is told to stop, and then stops it so that nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from tasks import work
from tasks.errors import ConfigError
from tasks.feed import Feed
from tasks.listen.commit import GroupCommit
from tasks.listen.health import Health
from tasks.listen.mllp import Listener, door
from tasks.settings import settings

if TYPE_CHECKING:
    import uvicorn

Tell = Callable[[str], None]


def committer(feeds: Sequence[Feed]) -> GroupCommit:
    """Return a started group commit over the settings' Postgres and landing."""
    commit = GroupCommit(settings().warehouse_url, work.landing(), feeds)
    commit.start()
    return commit


async def mllp(feeds: Sequence[Feed], host: str, port: int, health_port: int | None, tell: Tell) -> None:
    """Listen for feeds on one port until SIGTERM or SIGINT; raises `ConfigError` where it cannot be begun."""
    doors = [door(feed) for feed in feeds]
    commit = committer(feeds)
    listener = Listener(commit, doors)
    health = None
    try:
        await listener.start(host, port)
        if health_port is not None:
            health = Health(host, health_port, lambda: commit.ready and not listener.stopping)
            tell(f"health on {host}:{health.port}")
        for feed in feeds:
            tell(f"{feed.name}: MLLP on {host}:{listener.port}")
        await told_to_stop()
    finally:
        await listener.stop()
        await asyncio.to_thread(commit.stop)
        if health:
            health.close()


async def http(
    feeds: Sequence[Feed], host: str, port: int, tell: Tell, stopped: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Take FHIR and files over HTTP until SIGTERM or SIGINT, or `stopped`; raises `ConfigError` where it cannot."""
    # FastAPI is imported where it serves: the MLLP listener does without
    import uvicorn

    from tasks.listen.http import build
    from tasks.listen.intake import Intake
    from tasks.listen.notify import Notified

    url = settings().warehouse_url
    notified = [Notified(feed, url) for feed in feeds if feed.source.kind == "fhir-rest"]
    posted = [feed for feed in feeds if feed.source.kind != "fhir-rest"]
    commit = committer(posted)
    try:
        intakes = [Intake(feed, commit, work.landing(), url) for feed in posted]
        listening = _socket(host, port)
        app = build(intakes, lambda: commit.ready and not server.should_exit, notified)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            log_level="critical",
            timeout_graceful_shutdown=20,
            server_header=False,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(_serve(server, listening))
        for feed in feeds:
            tell(f"{feed.name}: HTTP on http://{host}:{listening.getsockname()[1]}/{feed.name}")
        await (stopped or told_to_stop)()
        server.should_exit = True
        await serving
    finally:
        await asyncio.to_thread(commit.stop)


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve without `server.serve`, which would take the process's signals for itself."""
    await server._serve([listening])


def _socket(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as error:
        raise ConfigError(f"http: {host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}") from None


async def told_to_stop() -> None:
    """Return when SIGTERM or SIGINT has come."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
