"""How fast messages become FHIR on one core: `python -m tests.bench.convert`, JSON on standard output.

Parse, convert, validate and serialise are timed together, each also alone, beside a plain split of the same text into
nested lists, which says how fast the machine is at the moment. The best of many short runs counts: what else the
machine does only ever makes a run slower.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from mappings.engine.json import dumps
from mappings.engine.model import Profile
from tasks.convert.bundle import bundle
from tasks.model import Frame
from tasks.pipeline import Pipeline

HEAD = r"MSH|^~\&|LAB|NORTHSIDE|EHR|WEST|20240310103000-0500||{kind}|MSG{n}|P|2.5.1"
PID = "PID|1||{n}^^^NORTHSIDE^MR||Doe^Jane^Q||19800102|F|||1 Main St^^Boston^MA^02101^USA^H||^PRN^PH^^1^617^5550101"
PV1 = "PV1|1|I|ICU^101^A^NORTHSIDE||||1234^Smith^John||||||||||||V{n}^^^NORTHSIDE^VN" + "|" * 25 + "20240309120000"
ORDER = (
    "ORC|RE|P{n}^EHR|F{n}^LAB||CM",
    "OBR|1|P{n}^EHR|F{n}^LAB|24323-8^CMP^LN|||202403100215|||||||||1234^Smith^John||||||20240310022000||CH|F",
)
RESULTS = tuple(
    f"OBX|{i}|NM|2345-{i}^Analyte {i}^LN||5.1{i}|mmol/L^^UCUM|3.9-5.8|N|||F|||202403100215" for i in range(1, 11)
)
ORU = "\r".join((HEAD.replace("{kind}", "ORU^R01^ORU_R01"), PID, PV1, *ORDER, *RESULTS)) + "\r"
ADT = (
    "\r".join((HEAD.replace("{kind}", "ADT^A01^ADT_A01"), "EVN|A01|20240310103000", PID + "|||M|||ACC{n}", PV1)) + "\r"
)


def best(work: Callable[[Any], Any], items: Sequence[Any], rounds: int = 20) -> float:
    """Return the seconds that one item takes, in the best of `rounds` rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        for item in items:
            work(item)
        taken.append(time.perf_counter() - start)
    return min(taken) / len(items)


def measure(template: str, number: int = 50) -> dict[str, float]:
    """Return messages a second for one kind of message, whole and by stage."""
    pipeline = Pipeline(Profile("northside", timezone="America/New_York"), "hl7v2")
    texts = [template.replace("{n}", str(n)) for n in range(number)]
    frames: list[Frame] = [frame for text in texts for frame in pipeline.format.split([text.encode()])]

    def convert(frame: Frame) -> Any:
        return pipeline.converter.convert(pipeline.format.parse(frame))

    def whole(frame: Frame) -> None:
        for entry in pipeline.run(frame).conversion.entries:
            dumps(entry.resource)

    converted = [convert(frame) for frame in frames]
    times = {
        "parse_convert_validate_serialise": best(whole, frames),
        "parse_convert": best(convert, frames),
        "validate": best(lambda c: [pipeline.check(entry.resource) for entry in c.entries], converted),
        "bundle": best(bundle, converted),
        "plain_split": best(split, texts),
    }
    return {name: round(1 / seconds, 1) for name, seconds in times.items()}


def split(text: str) -> list[Any]:
    """Return a message as nested lists, nothing else: the yardstick."""
    return [
        [[[c.split("&") for c in r.split("^")] for r in f.split("~")] for f in s.split("|")] for s in text.split("\r")
    ]


def main() -> None:
    """Print the rates as JSON."""
    rates = {"oru_r01_15_segments": measure(ORU), "adt_a01": measure(ADT)}
    sys.stdout.write(dumps(rates).decode() + "\n")


if __name__ == "__main__":
    main()
