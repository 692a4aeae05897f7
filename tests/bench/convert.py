"""How fast messages become FHIR on one core: `python -m tests.bench.convert`, JSON on standard output.

Parse, convert, validate and serialise are timed together, and each alone, in rounds of messages that the process has
not seen before (`varies` says what repeats in them). Rates are a second of CPU time, the median round and the best one:
what else the machine does only ever makes a round slower. `plain_split`, the same text cut into nested lists, says how
fast the machine is at the moment. `two_processes` is what two do at once, of one alone (by the clock only where two
cores are free); `large` the CPU time of an OBX-5 of one and of ten MB; `memory` how the process grows.
"""

from __future__ import annotations

import gc
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from mappings.engine.json import dumps, loads
from mappings.engine.model import Profile
from tasks.convert.bundle import bundle
from tasks.model import Frame
from tasks.pipeline import Pipeline
from tests.bench._traffic import VARIES, Hospital

MESSAGES = 100
ROUNDS = 24
WARM_UP = 800
NAMES = {"oru": "oru_r01_15_segments", "adt": "adt_a01"}


class Bench:
    """One kind of message on its way through a pipeline."""

    def __init__(self, kind: str, seed: int) -> None:
        self.pipeline = Pipeline(Profile("northside", timezone="America/New_York"), "hl7v2")
        self._messages = getattr(Hospital(seed), kind)()
        self._took: dict[str, list[float]] = {}
        for frame in self.frames(WARM_UP):
            self.whole(frame)

    def frames(self, number: int) -> list[Frame]:
        """Return the next messages, which have not been seen before."""
        return [frame for text in islice(self._messages, number) for frame in self.pipeline.format.split([text])]

    def whole(self, frame: Frame) -> None:
        """Take one message all the way."""
        for entry in self.pipeline.run(frame).conversion.entries:
            dumps(entry.resource)

    def timed(self, name: str, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        """Note the CPU time that one item takes; return what became of them."""
        start = time.process_time()
        made = [work(item) for item in items]
        self._took.setdefault(name, []).append((time.process_time() - start) / len(items))
        return made

    def round(self) -> None:
        """Measure once: the whole way, then the stages alone with other messages."""
        frames = self.frames(MESSAGES)
        self.timed("parse_convert_validate_serialise", self.whole, frames)
        frames = self.frames(MESSAGES)
        self.timed("plain_split", lambda frame: len(split(frame.data.decode())), frames)
        parsed = self.timed("parse", self.pipeline.format.parse, frames)
        converted = self.timed("convert", self.pipeline.converter.convert, parsed)
        self.timed("validate", lambda c: [self.pipeline.check(e.resource) for e in c.entries], converted)
        self.timed("serialise", lambda c: [dumps(e.resource) for e in c.entries], converted)
        self.timed("bundle", bundle, converted)

    def rates(self) -> dict[str, dict[str, float]]:
        """Return messages a second, the median round and the best."""
        return {
            name: {"median": round(1 / statistics.median(took)), "best": round(1 / min(took))}
            for name, took in self._took.items()
        }


def split(text: str) -> list[Any]:
    """Return a message as nested lists, nothing else: the yardstick."""
    return [
        [[[c.split("&") for c in r.split("^")] for r in f.split("~")] for f in s.split("|")] for s in text.split("\r")
    ]


def measure(kind: str) -> dict[str, dict[str, float]]:
    """Return the rates of one kind of message."""
    bench = Bench(kind, seed=1)
    for _ in range(ROUNDS):
        bench.round()
    return bench.rates()


def large(megabytes: int) -> float:
    """Return the CPU seconds that an ORU with an OBX-5 of that size takes, the best of three."""
    pipeline = Pipeline(Profile("northside", timezone="America/New_York"), "hl7v2")
    best = float("inf")
    for turn in range(3):
        lines = next(Hospital(turn).oru()).split(b"\r")
        fields = lines[-2].split(b"|")
        fields[2], fields[5] = b"TX", b"".join(b"line %d of a report\\.br\\" % n for n in range(megabytes * 35_000))
        data = b"\r".join((*lines[:-2], b"|".join(fields), b""))
        frame = next(iter(pipeline.format.split(data[at : at + 65536] for at in range(0, len(data), 65536))))
        start = time.process_time()
        done = pipeline.run(frame)
        size = sum(len(dumps(entry.resource)) for entry in done.conversion.entries)
        best = min(best, time.process_time() - start)
        assert not done.failed
        assert size > megabytes * 800_000
    return best


def grown(number: int) -> dict[str, float]:
    """Return by how many MB the process grew over that many messages, after as many to fill the memories."""
    bench = Bench("oru", seed=2)
    for _ in range(number // MESSAGES):
        list(map(bench.whole, bench.frames(MESSAGES)))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(number // MESSAGES):
        list(map(bench.whole, bench.frames(MESSAGES)))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"messages": number, "megabytes_grown": round((after - before) / 1e3, 1), "megabytes": round(after / 1e3)}


def _worker(seed: int) -> None:
    """Wait for a line, convert for three seconds, say how many messages a second."""
    bench = Bench("oru", seed)
    frames = bench.frames(4000)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    start, used, count = time.perf_counter(), time.process_time(), 0
    while (took := time.perf_counter() - start) < 3:
        bench.whole(frames[count % len(frames)])
        count += 1
    sys.stdout.write(f"{count / took} {count / (time.process_time() - used)}\n")


def _together(number: int) -> tuple[float, float]:
    """Return how many messages a second that many processes convert: of the clock, of each one's CPU time summed."""
    workers = [
        subprocess.Popen(
            [sys.executable, __file__, "worker", str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for seed in range(number)
    ]
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [worker.communicate()[0].split() for worker in workers]
    return sum(float(clock) for clock, _ in said), sum(float(used) for _, used in said)


def main() -> None:
    """Print the figures as JSON."""
    one, two = _together(1), _together(2)
    processes = {
        name: {"one": round(one[at]), "two": round(two[at]), "times": round(two[at] / one[at], 2)}
        for at, name in enumerate(("by_the_clock", "by_cpu_time"))
    }
    small, big = large(1), large(10)
    figures = {
        "varies": VARIES,
        **{name: measure(kind) for kind, name in NAMES.items()},
        "two_processes": processes,
        "large": {"seconds_1_mb": round(small, 3), "seconds_10_mb": round(big, 3), "times": round(big / small, 1)},
        "memory": loads(subprocess.run([sys.executable, __file__, "memory"], check=True, capture_output=True).stdout),
    }
    sys.stdout.write(dumps(figures).decode() + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        _worker(int(sys.argv[2]))
    elif sys.argv[1:] == ["memory"]:
        sys.stdout.write(dumps(grown(10_000)).decode())
    else:
        main()
