"""The whole way through the Prefect flow, from a dropped file to the store: rate, memory, and Prefect's share.

`SLUICE_BENCH_MESSAGES` and `SLUICE_BENCH_NDJSON_MB` set the sizes (1,000,000 messages and 1,000 MB are the product's
goal for memory; the defaults are for an impatient person; 0 leaves a format out). Each format runs in a process of its
own, so that its peak of resident memory is its own. Prefect's share is the run's time that no stage was at work.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.dev.partners import big_hl7, big_ndjson
from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade

FEEDS = {
    "bench.hl7": "source: {kind: directory, connection: drop, match: '*.hl7', ready: {stable_polls: 1}}\n"
    "format: hl7v2\ntimezone: America/New_York\n",
    "bench.ndjson": "source: {kind: directory, connection: drop, match: '*.ndjson', ready: {stable_polls: 1}}\n"
    "format: fhir-ndjson\n",
}


def main() -> None:
    """Print one JSON object: for each format its size, seconds, seconds inside the stages, peak memory and rate."""
    messages = int(os.environ.get("SLUICE_BENCH_MESSAGES", "5000"))
    megabytes = int(os.environ.get("SLUICE_BENCH_NDJSON_MB", "10"))
    with tempfile.TemporaryDirectory() as folder:
        drop = Path(folder) / "drop"
        drop.mkdir()
        figures: dict[str, dict[str, float]] = {}
        if messages:
            with (drop / "big.hl7").open("wb") as stream:
                size = big_hl7(stream, messages)
            figures["hl7v2"] = {"messages": messages, "bytes": size, **_run("bench.hl7", Path(folder))}
        if megabytes:
            with (drop / "big.ndjson").open("wb") as stream:
                resources = big_ndjson(stream, megabytes * 1_000_000)
            figures["ndjson"] = {"resources": resources, "megabytes": megabytes, **_run("bench.ndjson", Path(folder))}
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def _run(feed: str, folder: Path) -> dict[str, float]:
    """Run a feed once in a fresh warehouse and a fresh process."""
    feeds = folder / "feeds"
    feeds.mkdir(exist_ok=True)
    for name, text in FEEDS.items():
        (feeds / f"{name}.yaml").write_text(text)
    with scratch_postgres() as url, tempfile.TemporaryDirectory() as home:
        upgrade(url)
        env = {
            **os.environ,
            "SLUICE_HOME": home,
            "SLUICE_FEEDS": str(feeds),
            "SLUICE_WAREHOUSE_URL": url,
            "SLUICE_LANDING_KEY": "bench:" + base64.b64encode(b"b" * 32).decode(),
            "SLUICE_CONNECTION_DROP": json.dumps({"root": str(folder / "drop")}),
            "PREFECT_HOME": str(Path(home) / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        env.pop("PREFECT_API_URL", None)
        done = subprocess.run(
            [sys.executable, __file__, feed],
            env=env,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def run(feed: str) -> dict[str, float]:
    """Run the flow against a temporary Prefect server, with a clock in every task's body."""
    from prefect.testing.utilities import prefect_test_harness

    from tasks.ledger.db import connect
    from tasks.publish import tables
    from tasks.settings import settings

    with prefect_test_harness():
        from flows import ingest as page

        clock = Clock()
        for task in (page.land, page.process, page.gate, page.publish, page.deliver, page.receipts):
            task.fn = clock.around(task.fn)
        with connect(settings().warehouse_url) as connection:
            tables.apply(connection)
        began = time.monotonic()
        received = int(page.ingest(feed)["received"])
        seconds = time.monotonic() - began
    return {
        "seconds": round(seconds, 1),
        "seconds_in_stages": round(clock.seconds, 1),
        "prefect_share_percent": round(100 * (1 - clock.seconds / seconds), 1),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "records_per_second": round(received / seconds, 1),
    }


class Clock:
    """Adds up the seconds in which at least one stage is at work; stages may overlap."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._at_work = 0
        self._since = 0.0
        self._lock = threading.Lock()

    def around(self, body: Callable[..., Any]) -> Callable[..., Any]:
        """Return `body` with the clock running while it does."""

        @functools.wraps(body)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._count(1)
            try:
                return body(*args, **kwargs)
            finally:
                self._count(-1)

        return timed

    def _count(self, step: int) -> None:
        with self._lock:
            now = time.monotonic()
            if self._at_work:
                self.seconds += now - self._since
            self._since = now
            self._at_work += step


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        sys.stdout.write("\n" + json.dumps(run(sys.argv[1])) + "\n")
