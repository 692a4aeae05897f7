"""A replay's dry run beside the conversion of the same records: both in CPU seconds, and in seconds with Postgres.

`SLUICE_BENCH_MESSAGES` sets how many messages. The dry run reads landing, converts, folds and compares; conversion is
what `sluice convert` does, without writing bundles. The maps differ from those that published, so that there is work:
`unchanged` is a replay under the same maps, `changed` one under which every patient says something else.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from infra.dev.partners import big_hl7
from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade

FEED = (
    "source: {kind: directory, connection: drop, ready: {stable_polls: 1}}\nformat: hl7v2\ntimezone: America/New_York\n"
)
NAME = "bench.hl7"


def main() -> None:
    """Print one JSON object: messages, their rate on each side, the dry run's share of conversion's speed."""
    messages = int(os.environ.get("SLUICE_BENCH_MESSAGES", "5000"))
    with scratch_postgres() as url, tempfile.TemporaryDirectory() as folder:
        upgrade(url)
        _settle(Path(folder), url)
        data = io.BytesIO()
        big_hl7(data, messages)
        (Path(folder) / "drop" / "big.hl7").write_bytes(data.getvalue())
        publish(url)
        converted = timed(lambda: convert(data.getvalue()))
        unchanged = timed(dry_run)
        make_different(url)
        changed = timed(dry_run)
    figures = {
        "messages": messages,
        "convert": rate(messages, converted),
        "dry_run_unchanged": rate(messages, unchanged),
        "dry_run_changed": rate(messages, changed),
        "dry_run_changed_to_convert": round(converted[0] / changed[0], 2),
        "dry_run_unchanged_to_convert": round(converted[0] / unchanged[0], 2),
    }
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def rate(messages: int, took: tuple[float, float]) -> dict[str, float]:
    """Return messages a second, by the clock and by this process's CPU."""
    return {"per_second": round(messages / took[0]), "per_cpu_second": round(messages / took[1])}


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of the faster of two goes."""
    goes = []
    for _ in range(2):
        began, cpu = time.perf_counter(), time.process_time()
        work()
        goes.append((time.perf_counter() - began, time.process_time() - cpu))
    return min(goes)


def convert(data: bytes) -> None:
    """Convert as `sluice convert` does."""
    from tasks import work

    pipeline = work.pipeline(NAME)
    for frame in pipeline.format.split([data]):
        pipeline.run(frame)


def dry_run() -> None:
    """Ask what a replay of the feed would change."""
    from tasks.replay.again import Outcome
    from tasks.replay.difference import difference
    from tasks.replay.run import Pace, replay
    from tasks.replay.select import Selection

    def tell(outcome: Outcome) -> None:
        for change in outcome.changes:
            deque(difference(change.before or {}, change.after or {}), maxlen=0)

    replay(Selection(feed=NAME), "bench", "bench", Pace(pause=0), tell, dry=True)


def publish(url: str) -> None:
    """Land, stage and publish what was dropped."""
    from tasks import work
    from tasks.feed import load
    from tasks.gate.gate import decide
    from tasks.ledger import claims
    from tasks.ledger.db import connect
    from tasks.process.land import Lander
    from tasks.process.stage import Stager
    from tasks.publish import tables
    from tasks.publish.store import publish as publish_batch

    feed = load(NAME)
    with claims.claim(url, f"feed:{NAME}", "bench", 600) as token, connect(url) as reader, connect(url) as writer:
        tables.apply(writer)
        Lander(writer, feed, work.source(feed), work.landing(), token, "bench").land()
        stager = Stager(feed, work.landing(), work.pipeline(NAME))
        while (staged := stager.stage(reader, writer, token, 10_000, "bench")).read:
            if staged.batch_id is not None and decide(writer, feed, staged.batch_id, token)["passed"]:
                publish_batch(writer, staged.batch_id, token, tables.refresh, "bench")


def make_different(url: str) -> None:
    """Let every patient be published as something else than today's maps say."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "update fhir.resource set digest = '', resource = resource || '{\"active\": false}' "
            "where resource_type = 'Patient'"
        )


def _settle(folder: Path, url: str) -> None:
    for name in ("drop", "feeds", "home"):
        (folder / name).mkdir()
    (folder / "feeds" / f"{NAME}.yaml").write_text(FEED)
    os.environ.update({
        "SLUICE_HOME": str(folder / "home"),
        "SLUICE_FEEDS": str(folder / "feeds"),
        "SLUICE_WAREHOUSE_URL": url,
        "SLUICE_LANDING_KEY": "bench:" + base64.b64encode(b"b" * 32).decode(),
        "SLUICE_CONNECTION_DROP": json.dumps({"root": str(folder / "drop")}),
    })  # fmt: skip


if __name__ == "__main__":
    main()
