"""What the watcher costs when nothing comes: 50 idle feeds, a look every five seconds; prints JSON."""

from __future__ import annotations

import base64
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade

FEEDS = 50
FILES = 20
EVERY = 5.0


def main(seconds: float = 20.0) -> dict[str, float]:
    """Return the share of a core that the process uses, in percent."""
    from deployments.watch import Watcher
    from tasks.feed import feed_files, load

    with scratch_postgres() as url, tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "feeds").mkdir()
        for number in range(FEEDS):
            _feed(home, f"partner{number}.adt")
        os.environ |= {
            "SLUICE_FEEDS": str(home / "feeds"),
            "SLUICE_WAREHOUSE_URL": url,
            "SLUICE_CONNECTION_DROP": json.dumps({"root": folder}),
            "SLUICE_LANDING_KEY": "bench:" + base64.b64encode(os.urandom(32)).decode(),
        }
        upgrade(url)
        watcher = Watcher([load(name) for name in feed_files()], url, lambda _name: None, EVERY)
        watcher.tick(wait=True)
        begin, until = time.process_time(), time.monotonic() + seconds
        watcher.run(lambda pause: bool(time.sleep(pause)) or time.monotonic() > until)
        used = time.process_time() - begin
    return {"feeds": FEEDS, "seconds": seconds, "core_percent": round(100 * used / seconds, 2)}


def _feed(home: Path, name: str) -> None:
    (home / name).mkdir()
    for number in range(FILES):
        # uploads that are under way: they are looked at and not taken
        (home / name / f"{number}.hl7.part").write_text("MSH|")
    source = f"{{kind: directory, connection: drop, path: {name}, ready: {{rename_from: .part}}}}"
    (home / "feeds" / f"{name}.yaml").write_text(f"source: {source}\nformat: hl7v2\ntimezone: UTC\n")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0), indent=1) + "\n")
