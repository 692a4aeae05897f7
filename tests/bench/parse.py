"""Parse a 15-segment ORU with Sluice and with python-hl7, side by side: `python tests/bench/parse.py` prints JSON.

`lazy` reads the message and its tree; `full` reads and unescapes every field as well, on both sides.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import hl7

from mappings.engine.model import Profile
from tasks.model import BEGIN, Frame
from tasks.parse.hl7v2 import Hl7v2Format

HEAD = (
    "MSH|^~\\&|LAB|WEST^1.2.840.99.1^ISO|EHR|WEST|20250314080910-0500||ORU^R01^ORU_R01|C{n:06d}|P|2.5.1|||AL|NE",
    (
        "PID|1||90{n:06d}^^^WEST&1.2.840.99.1&ISO^MR~7731{n:04d}^^^SSA^SS||Okonkwo^Ada^Ngozi^^^^L||19720831|F||2106-3|"
        "12 Canal St^Apt 4^Springfield^IL^62701^USA^H||^PRN^PH^^1^217^5550{n:03d}|||M"
    ),
    "PV1|1|O|LAB^2^^WEST||||1234567893^Meyer^Jonas^^^Dr^^^NPI||||||||||||V{n:06d}|||||||||||||||||||||||||20250314",
    "ORC|RE|P{n:06d}^EHR|F{n:06d}^LAB||CM||||20250314073000-0500|||1234567893^Meyer^Jonas^^^Dr^^^NPI",
    (
        "OBR|1|P{n:06d}^EHR|F{n:06d}^LAB|24323-8^Comprehensive metabolic panel^LN|||20250314070000-0500||||||Fasting"
        " \\T\\ rested|||1234567893^Meyer^Jonas^^^Dr^^^NPI||||||20250314080000-0500||CH|F"
    ),
)
RESULT = (
    "OBX|{i}|NM|{code}-{i}^Analyte {i} in Serum^LN^A{i}^Local {i}^L||{value:.2f}|mmol/L^millimole per liter^UCUM"
    "|3.50-5.{i}0|{flag}|||F|||20250314074500-0500||TECH{i}^Park^Min|||20250314075500-0500"
)


def message(n: int) -> bytes:
    """Return a 15-segment ORU^R01 with 10 OBX; `n` varies the values."""
    results = (
        RESULT.format(i=i, code=2000 + i * 7, value=(n * i % 97) / 7 + 1, flag="H" if (n + i) % 5 == 0 else "N")
        for i in range(1, 11)
    )
    return "\r".join((*(line.format(n=n) for line in HEAD), *results, "")).encode()


def sluice_lazy(frame: Frame) -> int:
    """Read a message; return its number of segments."""
    return len(FORMAT.parse(frame).content.segments)


def sluice_full(frame: Frame) -> int:
    """Read a message and all its fields, unescaped; return how many there are."""
    return sum([len(segment.fields) for segment in FORMAT.parse(frame).content.segments])


def peer_full(frame: Frame) -> int:
    """Do the same with python-hl7, whose values are unescaped one by one."""
    parsed = hl7.parse(frame.data.decode())
    unescape = parsed.unescape
    found = 0
    for segment in parsed:
        found += len(segment)
        for field in segment:
            for repetition in [field] if isinstance(field, str) else field:
                for component in [repetition] if isinstance(repetition, str) else repetition:
                    for value in [component] if isinstance(component, str) else component:
                        unescape(value)
    return found


def split_all(data: bytes) -> int:
    """Cut a file of many messages into frames; return how many."""
    return sum(1 for _ in FORMAT.split(data[at : at + 65536] for at in range(0, len(data), 65536)))


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


FORMAT = Hl7v2Format(Profile("bench"))


def main(rounds: int = 40) -> dict[str, float]:
    """Return the rates in messages a second, and how many times python-hl7's Sluice's is.

    The sides take turns, so that what else the machine does meets all of them; the best turn of each counts.
    """
    frames = [Frame(n + 1, f"message {n + 1}", message(n), BEGIN) for n in range(1000)]
    if sluice_full(frames[0]) != peer_full(frames[0]):
        raise SystemExit("the two sides do not read the same fields")
    data = b"".join(frame.data for frame in frames)
    work: dict[str, tuple[int, Callable[[list[Frame]], object]]] = {
        "lazy": (200, lambda some: [sluice_lazy(frame) for frame in some]),
        "full": (200, lambda some: [sluice_full(frame) for frame in some]),
        "python_hl7_full": (10, lambda some: [peer_full(frame) for frame in some]),
        "split": (1000, lambda _: split_all(data)),
    }
    best = dict.fromkeys(work, 0.0)
    for turn in range(rounds):
        for name, (size, call) in work.items():
            some = frames[turn * size % 1000 :][:size]
            best[name] = max(best[name], size / seconds_of(partial(call, some)))
    return {
        "segments": 15,
        **{f"{name}_per_second": round(rate) for name, rate in best.items()},
        "lazy_microseconds": round(1e6 / best["lazy"], 1),
        "times_python_hl7": round(best["full"] / best["python_hl7_full"], 1),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=1) + "\n")
