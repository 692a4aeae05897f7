"""Laboratory orders and their results as ORC, OBR, OBX, NTE and SPM."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from infra.dev.partners import vocabulary as words
from infra.dev.partners.people import measure
from infra.dev.partners.segments import Facility, doctor_xcn, escaped, segment


@dataclass(frozen=True, slots=True)
class Result:
    """One OBX: type, code, name, value, unit, range, flag."""

    kind: str
    loinc: str
    name: str
    value: str
    unit: str = ""
    reference: str = ""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """One order of one panel, with its final results and what a correction says instead of the first."""

    placer: str
    filler: str
    code: tuple[str, str]
    collected: datetime
    doctor: tuple[str, str, str, str]
    results: tuple[Result, ...]
    corrected: Result

    @classmethod
    def draw(cls, dice: random.Random, number: str, collected: datetime) -> Order:
        """Draw an order: a panel of numbers, a single test that may exceed its range, or a coded result."""
        shape = dice.random()
        if shape < 0.75:
            code, tests = dice.choice(list(words.PANELS.items()))
            results = tuple(_numeric(dice, test) for test in tests)
            corrected = _numeric(dice, tests[0])
        elif shape < 0.88:
            test = dice.choice(words.SINGLE_TESTS)
            code = (test.loinc, test.name)
            results = (_bounded(test) if dice.random() < 0.3 else _numeric(dice, test),)
            corrected = _numeric(dice, test)
        else:
            code = dice.choice(words.CODED_TESTS)
            results = (_coded(dice, code),)
            corrected = _coded(dice, code)
        return cls(f"P{number}", f"L{number}", code, collected, dice.choice(words.DOCTORS), results, corrected)

    def tests(self) -> Iterator[str]:
        """Yield the LOINC code of each result."""
        return (result.loinc for result in self.results)


def _numeric(dice: random.Random, test: words.Test) -> Result:
    value, flag = measure(dice, test)
    return Result("NM", test.loinc, test.name, value, test.unit, f"{test.low:g}-{test.high:g}", flag)


def _bounded(test: words.Test) -> Result:
    return Result("SN", test.loinc, test.name, f"<^{test.low:g}", test.unit, f"{test.low:g}-{test.high:g}", "L")


def _coded(dice: random.Random, code: tuple[str, str]) -> Result:
    snomed, term, flag = dice.choice(words.CODED_RESULTS[code[0]])
    return Result("CWE", code[0], code[1], f"{snomed}^{term}^SCT", flag=flag)


def oru(order: Order, status: str, when: datetime, facility: Facility) -> Iterator[str]:
    """Yield the segments of one report on `order`: preliminary (P, the first half), final (F) or corrected (C)."""
    results = list(order.results)
    if status == "P":
        results = results[: (len(results) + 1) // 2]
    elif status == "C":
        results[0] = order.corrected
    placer, filler = f"{order.placer}^EHR{facility.code}", f"{order.filler}^LIS{facility.code}"
    doctor, collected = doctor_xcn(order.doctor), facility.time(order.collected)
    yield segment("ORC", {1: "RE", 2: placer, 3: filler, 5: "IP" if status == "P" else "CM", 9: collected, 12: doctor})
    yield segment(
        "OBR",
        {1: "1", 2: placer, 3: filler, 4: f"{order.code[0]}^{order.code[1]}^LN", 7: collected, 16: doctor,
         22: facility.time(when), 24: "LAB", 25: status},
    )  # fmt: skip
    for number, result in enumerate(results, 1):
        yield _obx(number, result, status, order.collected, facility)
        if status == "C" and number == 1:
            note = escaped("Corrected: previous specimen hemolyzed & rerun") + "\\.br\\Called to ward"
            yield segment("NTE", {1: "1", 2: "L", 3: note})
    snomed, term = words.SPECIMENS.get(order.code[0], words.SPECIMENS[""])
    yield segment("SPM", {1: "1", 2: f"^{order.filler}S&LIS{facility.code}", 4: f"{snomed}^{term}^SCT", 17: collected})


def _obx(number: int, result: Result, status: str, when: datetime, facility: Facility) -> str:
    unit = f"{escaped(result.unit)}^^UCUM" if result.unit else ""
    return segment(
        "OBX",
        {1: str(number), 2: result.kind, 3: f"{result.loinc}^{result.name}^LN", 5: result.value, 6: unit,
         7: result.reference, 8: result.flag, 11: status, 14: facility.time(when)},
    )  # fmt: skip
