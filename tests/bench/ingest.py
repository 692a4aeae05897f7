"""The whole way, from a dropped file to the store: rate, memory, and Prefect's share, both sides in one run.

`SLUICE_BENCH_MESSAGES` and `SLUICE_BENCH_NDJSON_MB` set the sizes (1,000,000 messages and 1,000 MB are the product's
goal for memory; the defaults are for an impatient person). Every side runs in a process of its own, so that its peak of
resident memory is its own.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """Print one JSON object: for each format the size, seconds and peak memory without and with Prefect."""
    messages = int(os.environ.get("SLUICE_BENCH_MESSAGES", "5000"))
    megabytes = int(os.environ.get("SLUICE_BENCH_NDJSON_MB", "10"))
    with tempfile.TemporaryDirectory() as folder:
        drop = Path(folder) / "drop"
        drop.mkdir()
        with (drop / "big.hl7").open("wb") as stream:
            size = big_hl7(stream, messages)
        with (drop / "big.ndjson").open("wb") as stream:
            resources = big_ndjson(stream, megabytes * 1_000_000)
        figures = {
            "hl7v2": {"messages": messages, "bytes": size, **_sides("bench.hl7", Path(folder))},
            "ndjson": {"resources": resources, "bytes": megabytes * 1_000_000, **_sides("bench.ndjson", Path(folder))},
        }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def _sides(feed: str, folder: Path) -> dict[str, float]:
    bare = _side("bare", feed, folder)
    flow = _side("flow", feed, folder)
    return {
        "seconds": bare["seconds"],
        "seconds_with_prefect": flow["seconds"],
        "prefect_share_percent": round(100 * (1 - bare["seconds"] / flow["seconds"]), 1),
        "peak_megabytes": bare["peak"],
        "peak_megabytes_with_prefect": flow["peak"],
        "records_per_second": round(bare["records"] / bare["seconds"], 1),
    }


def _side(side: str, feed: str, folder: Path) -> dict[str, float]:
    """Run one side in a fresh warehouse and a fresh process."""
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
            [sys.executable, __file__, side, feed],
            env=env,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def bare(feed: str) -> int:
    """Do what the flow does, without Prefect; return how many records were received."""
    from tasks import work
    from tasks.feed import load
    from tasks.ledger import claims
    from tasks.ledger.db import connect
    from tasks.process.land import Lander
    from tasks.process.stage import Stager
    from tasks.publish import store, tables
    from tasks.settings import settings

    config, one, received = settings(), load(feed), 0
    with connect(config.warehouse_url) as first, connect(config.warehouse_url) as second:
        tables.apply(first)
        with claims.claim(config.warehouse_url, f"feed:{feed}", "bench", 600) as token:
            Lander(first, one, work.source(one), work.landing(), token).land()
            stager = Stager(one, work.landing(), work.pipeline(feed))
            while (staged := stager.stage(first, second, token, config.batch_records, "bench")).read:
                received += staged.received
                if staged.batch_id is not None:
                    store.publish(first, staged.batch_id, token, tables.refresh)
    return received


def flow(feed: str) -> int:
    """Run the flow against a temporary Prefect server; return how many records were received."""
    from prefect.testing.utilities import prefect_test_harness

    from tasks.ledger.db import connect
    from tasks.publish import tables
    from tasks.settings import settings

    with prefect_test_harness():
        from flows.ingest import ingest

        with connect(settings().warehouse_url) as connection:
            tables.apply(connection)
        global started
        started = time.monotonic()
        return int(ingest(feed)["received"])


started = time.monotonic()

if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        records = {"bare": bare, "flow": flow}[sys.argv[1]](sys.argv[2])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result = {"records": records, "seconds": round(time.monotonic() - started, 2), "peak": round(peak)}
        sys.stdout.write("\n" + json.dumps(result) + "\n")
