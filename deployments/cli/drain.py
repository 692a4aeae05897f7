"""`sluice drain`: takes what listeners landed, as one long Prefect run in this process."""

from __future__ import annotations

from deployments.cli.listen import Feeds, Health, Host, chosen


def drain(feeds: Feeds = None, host: Host = "127.0.0.1", health_port: Health = None) -> None:
    """Take what listeners land through every stage, until SIGTERM; the batch at hand is finished first."""
    from deployments.runtime import use_prefect

    use_prefect()
    import signal
    import threading

    from flows.drain import until_stopped
    from tasks.listen.health import Health as Pages
    from tasks.process.drain import STOP, WORKING

    names = [feed.name for feed in chosen(feeds, "mllp", "http")]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: STOP.set())
    pages = (
        Pages(host, health_port, lambda: WORKING.is_set() and not STOP.is_set()) if health_port is not None else None
    )
    for name in names:
        print(f"{name}: drained", flush=True)
    worker = threading.Thread(target=until_stopped, args=(names,))
    worker.start()
    worker.join()
    if pages:
        pages.close()
