"""What the ledger costs: its share of a run of 100,000 records, from the first listing to the store and the outbox.

`SLUICE_BENCH_RECORDS` sets the size. Every call from outside into `tasks.ledger` counts, waiting for Postgres included,
and so do the ledger's statements that stand in the stages (known keys, outbox, the end of a batch). Both sides are
times of the same run: their ratio stands whatever else the machine does.
"""

from __future__ import annotations

import base64
import functools
import importlib
import json
import os
import pkgutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from infra.dev.partners import big_hl7
from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade
from tasks import log

FEED = (
    "source: {kind: directory, connection: drop, match: '*.hl7', ready: {stable_polls: 1}}\n"
    "format: hl7v2\ntimezone: America/New_York\nroute: [{to: [warehouse, ehr]}]\n"
)
INSIDE = (("tasks.process.stage", "_known"), ("tasks.publish.store", "_enqueue"), ("tasks.publish.store", "_close"))
"""The ledger's statements that do not stand in its package."""


class Clock:
    """The seconds spent in what it is wrapped around, by name; a call within a call counts once."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inside = False

    def around(self, module: ModuleType, name: str) -> None:
        """Measure a function wherever it is looked up in its module."""
        function = getattr(module, name)
        setattr(module, name, self._timed(f"{module.__name__}.{name}", function))

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.inside:
                return function(*args, **kwargs)
            self.inside, began = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.inside = False
                self.seconds[name] += time.perf_counter() - began

        return timed


def measure(clock: Clock) -> None:
    """Wrap every public function of the ledger's modules but the connection itself, and what stands outside."""
    import tasks.ledger

    for found in pkgutil.iter_modules(tasks.ledger.__path__, "tasks.ledger."):
        module = importlib.import_module(found.name)
        if found.name.endswith((".db", ".claims")):
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == found.name and not name.startswith("_"):
                clock.around(module, name)
    clock.around(importlib.import_module("tasks.ledger.claims"), "check")
    for place, name in INSIDE:
        module = importlib.import_module(place)
        if hasattr(module, name):
            clock.around(module, name)


def main() -> None:
    """Print one JSON object: records, seconds, the ledger's seconds and share, and what in it costs most."""
    log.configure()
    records = int(os.environ.get("SLUICE_BENCH_RECORDS", "100000"))
    with tempfile.TemporaryDirectory() as folder, scratch_postgres() as url:
        home = Path(folder)
        (home / "drop").mkdir()
        (home / "feeds").mkdir()
        (home / "feeds" / "bench.hl7.yaml").write_text(FEED)
        with (home / "drop" / "big.hl7").open("wb") as stream:
            big_hl7(stream, records)
        upgrade(url)
        os.environ.update(
            {
                "SLUICE_HOME": folder,
                "SLUICE_FEEDS": str(home / "feeds"),
                "SLUICE_WAREHOUSE_URL": url,
                "SLUICE_LANDING_KEY": "bench:" + base64.b64encode(b"b" * 32).decode(),
                "SLUICE_CONNECTION_DROP": json.dumps({"root": str(home / "drop")}),
            }
        )
        figures = _run(url)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def _run(url: str) -> dict[str, Any]:
    from infra.chaos.plain import take
    from tasks.feed import load
    from tasks.ledger import claims
    from tasks.ledger.db import connect
    from tasks.publish import tables

    with connect(url) as connection:
        tables.apply(connection)
    clock = Clock()
    measure(clock)
    began = time.perf_counter()
    with claims.claim(url, "feed:bench.hl7", "bench", 600) as token:
        take(load("bench.hl7"), token)
    seconds = time.perf_counter() - began
    with connect(url) as connection:
        row = connection.execute("select sum(received)::int, sum(in_flight)::int from ops.delivery").fetchone()
        sound = connection.execute("select count(*) from ops.invariant").fetchone() == (0,)
    inside = sum(clock.seconds.values())
    return {
        "records": row[0] if row else 0,
        "in_flight_for_destinations": row[1] if row else 0,
        "invariant_holds": sound,
        "seconds": round(seconds, 1),
        "ledger_seconds": round(inside, 1),
        "ledger_share_percent": round(100 * inside / seconds, 1),
        "most": {name: round(spent, 2) for name, spent in clock.seconds.most_common(6)},
    }


if __name__ == "__main__":
    main()
