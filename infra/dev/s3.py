"""The embedded S3 (and SQS), for development and tests: moto's server, in memory, on 127.0.0.1."""

from __future__ import annotations

import argparse
import logging
import threading
from typing import Any

import boto3
from botocore.config import Config
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from infra.dev._stop import server_stop

KEYS = {"access_key": "sluice", "secret_key": "sluice-development", "region": "us-east-1"}
"""What the embedded server is called with; it accepts any."""


class S3Server:
    """Serves in a thread of its own; `port` 0 takes a free one, after `start` the attribute holds it."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: Any = None
        self._thread: threading.Thread | None = None

    @property
    def endpoint_url(self) -> str:
        """The address for boto3's `endpoint_url`."""
        return f"http://127.0.0.1:{self.port}"

    def connection(self, bucket: str) -> dict[str, str]:
        """Return the connection values with which a feed reaches this bucket."""
        return {**KEYS, "endpoint_url": self.endpoint_url, "bucket": bucket}

    def client(self, service: str = "s3") -> Any:
        """Return a boto3 client of this server."""
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint_url,
            region_name=KEYS["region"],
            aws_access_key_id=KEYS["access_key"],
            aws_secret_access_key=KEYS["secret_key"],
            config=Config(s3={"addressing_style": "path"}),
        )

    def start(self) -> S3Server:
        """Listen; raises `OSError` where the port is taken."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        app = DomainDispatcherApplication(create_backend_app)
        try:
            self._server = make_server("127.0.0.1", self.port, app, True, request_handler=MotoRequestHandler)
        except SystemExit:
            # Werkzeug prints and exits where a port is taken.
            raise OSError(f"port {self.port} is taken") from None
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="s3-server", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Give up the port."""
        self._server.shutdown()
        self._server.server_close()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> S3Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def main() -> None:
    """Serve until stopped: `python -m infra.dev.s3 --port N [--bucket NAME …]`."""
    parser = argparse.ArgumentParser(prog="python -m infra.dev.s3", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--bucket", action="append", default=[], help="make this bucket")
    options = parser.parse_args()
    stopped = server_stop()
    server = S3Server(options.port).start()
    for bucket in options.bucket:
        server.client().create_bucket(Bucket=bucket)
    print(f"s3 {server.endpoint_url}", flush=True)  # noqa: T201
    stopped.wait()
    server.stop()


if __name__ == "__main__":
    main()
