"""`sluice listen mllp|http`: listeners, each in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from deployments.cli.output import warn
from tasks.errors import ConfigError

if TYPE_CHECKING:
    from tasks.feed import Feed

Feeds = Annotated[list[str] | None, typer.Argument(help="Names of feeds; all of this kind without any.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Health = Annotated[int | None, typer.Option(help="Port of /healthz, /readyz and /metrics; none without it.")]


def mllp(
    feeds: Feeds = None,
    port: Annotated[int | None, typer.Option(help="Port; else the feeds' own.")] = None,
    host: Host = "127.0.0.1",
    health_port: Health = None,
) -> None:
    """Listen for HL7 v2 messages over MLLP; each is acknowledged when it is kept. SIGTERM stops it and loses none."""
    from tasks import log
    from tasks.listen.run import mllp as run

    log.configure()
    served = chosen(feeds, "mllp")
    ports = {feed.source.port for feed in served} if port is None else {port}
    if len(ports) != 1 or None in ports:
        raise ConfigError("listen mllp: these feeds do not name one port; give --port, or start one listener a port")
    asyncio.run(run(served, host, next(iter(ports)), health_port, _tell))


def http(
    feeds: Feeds = None,
    port: Annotated[int, typer.Option(help="Port.")] = 8090,
    host: Host = "127.0.0.1",
) -> None:
    """Take FHIR and files over HTTP; 202 when they are kept. /healthz, /readyz, /metrics and /docs are there too."""
    from tasks import log
    from tasks.listen.run import http as run

    log.configure()
    asyncio.run(run(chosen(feeds, "http", "fhir-rest"), host, port, _tell))


def chosen(names: Sequence[str] | None, *kinds: str) -> list[Feed]:
    """Return the named feeds; of all feeds those of these kinds. Raises `ConfigError` where there is none."""
    named = named_or_good(names)
    found = [feed for feed in named if feed.source.kind in kinds and _listens(feed)]
    if (names and len(found) < len(named)) or not found:
        kind = " or ".join(kinds)
        raise ConfigError(
            f"{'not every' if found else 'no'} feed {'named ' if names else ''}has `source: kind: {kind}`"
        )
    return found


def named_or_good(names: Sequence[str] | None) -> list[Feed]:
    """Return the named feeds; without names all whose file is right, the others are told of and keep nobody waiting."""
    from tasks.feed import good_feeds, load

    return [load(name) for name in names] if names else good_feeds(warn)


def _listens(feed: Feed) -> bool:
    """Say whether anything comes by itself: a server that is polled may be asked to tell of changes."""
    return feed.source.kind != "fhir-rest" or feed.source.subscribe is not None


def _tell(line: str) -> None:
    print(line, flush=True)
