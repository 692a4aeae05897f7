"""Waiting for the signal that ends an embedded server."""

from __future__ import annotations

import signal
import threading


def server_stop() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    return stopped
