"""`sluice watch`: polls every feed often and starts a run only when there is something to take."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.cli.listen import Health, Host, named_or_good
from tasks.errors import ConfigError


def watch(
    feeds: Annotated[list[str] | None, typer.Argument(help="Names of feeds; all of them without any.")] = None,
    every: Annotated[float, typer.Option(help="Seconds from one look at a feed to the next.", min=0.5)] = 5.0,
    host: Host = "127.0.0.1",
    health_port: Health = None,
) -> None:
    """Watch feeds of files and start a deployed feed's run when something has come, until SIGTERM."""
    from deployments.runtime import use_prefect

    use_prefect()
    import signal
    import threading

    from deployments.runs import start
    from deployments.watch import Watcher, is_watched
    from tasks import log
    from tasks.listen.health import Health as Pages
    from tasks.settings import settings

    log.configure()
    chosen = [feed for feed in named_or_good(feeds) if is_watched(feed)]
    if not chosen:
        raise ConfigError("watch: none of these feeds has a source whose files can be listed")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    watcher = Watcher(chosen, settings().warehouse_url, start, every)
    pages = None
    if health_port is not None:
        pages = Pages(host, health_port, lambda: watcher.ready and not stop.is_set())
    for feed in chosen:
        print(f"{feed.name}: watched, every {every:g}s", flush=True)
    watcher.run(stop.wait)
    if pages:
        pages.close()
