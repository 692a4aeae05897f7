"""`/healthz`, `/readyz` and `/metrics` of a process that has no HTTP server of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tasks.errors import ConfigError
from tasks.listen.metrics import REGISTRY


class Health:
    """Answers on its own thread until it is closed; `port` 0 lets the system choose."""

    def __init__(self, host: str, port: int, ready: Callable[[], bool]) -> None:
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(ready))
        except OSError as error:
            raise ConfigError(f"health: {host}:{port} cannot be listened on: {os.strerror(error.errno or 0)}") from None
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def page(path: str, ready: Callable[[], bool]) -> tuple[int, str, bytes]:
    """Return status, media type and body of a health page; 404 for another path."""
    if path == "/metrics":
        return 200, CONTENT_TYPE_LATEST, generate_latest(REGISTRY)
    if path == "/healthz":
        return 200, "text/plain", b"alive\n"
    if path == "/readyz":
        return (200, "text/plain", b"ready\n") if ready() else (503, "text/plain", b"not ready\n")
    return 404, "text/plain", b"only /healthz, /readyz and /metrics are here\n"


def _handler(ready: Callable[[], bool]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            status, media, body = page(self.path.split("?")[0], ready)
            self.send_response(status)
            self.send_header("Content-Type", media)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """A monitor's polls are no news."""

    return Handler
