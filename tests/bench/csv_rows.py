"""CSV rows through to validated resources on one core: `python tests/bench/csv_rows.py` prints JSON.

`observations` makes one Observation a row; `eastlab-results` makes a patient, an order and a result of each. Rates are
rows a second of CPU time, steps are microseconds a row. `big_csv` streams a large file and says how memory grew.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.dev.partners import big_csv
from mappings.engine.model import Profile
from tasks.convert.csv import CsvConverter
from tasks.parse.csv import CsvFormat
from tasks.validate import validator

ROWS = 20_000
LARGE = 1_000_000
OBSERVATIONS = str(Path(__file__).with_name("csv-observations.yaml"))
MAPPINGS = {"observations": OBSERVATIONS, "eastlab-results": "eastlab-results"}
check = validator("4.0.1").check


def microseconds(work: Callable[[], object], rows: int) -> float:
    """Return the CPU time a row takes, the best of three passes."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, (time.process_time() - start) / rows * 1e6)
    return best


def measure(mapping: str, rows: int) -> dict[str, float]:
    """Return the time of each step, and the rate of all together."""
    profile = Profile("eastlab", mapping, "America/New_York")
    form, converter = CsvFormat(profile), CsvConverter(profile)
    chunks = list(big_csv(rows))
    frames = list(form.split(chunks))
    parsed = [form.parse(frame) for frame in frames]
    made = [converter.convert(one) for one in parsed]
    assert not any(one.findings for one in made)

    def valid() -> None:
        for one in made:
            for entry in one.entries:
                assert not check(entry.resource)

    steps = {
        "split": microseconds(lambda: deque(form.split(chunks), 0), rows),
        "parse": microseconds(lambda: deque(map(form.parse, frames), 0), rows),
        "convert": microseconds(lambda: deque(map(converter.convert, parsed), 0), rows),
        "validate": microseconds(valid, rows),
    }
    whole = 1e6 / sum(steps.values())
    return {**{name: round(value, 1) for name, value in steps.items()}, "rows_per_second": round(whole)}


def grown(rows: int) -> dict[str, float]:
    """Return by how many MB the process grew while it split, parsed and converted a file of `rows` rows."""
    profile = Profile("eastlab", OBSERVATIONS, "America/New_York")
    form, converter = CsvFormat(profile), CsvConverter(profile)
    before, size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0

    def chunks() -> Any:
        nonlocal size
        for chunk in big_csv(rows):
            size += len(chunk)
            yield chunk

    for frame in form.split(chunks()):
        converter.convert(form.parse(frame))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": rows, "megabytes_read": round(size / 1e6), "megabytes_grown": round((after - before) / 1e3, 1)}


def main() -> dict[str, object]:
    """Return all figures."""
    return {**{name: measure(mapping, ROWS) for name, mapping in MAPPINGS.items()}, "big_csv": grown(LARGE)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=1) + "\n")
