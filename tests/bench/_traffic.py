"""Synthetic HL7 v2 traffic of one hospital's day, for the benchmarks: no two messages are alike.

Every message has a control id, a moment and an order or visit of its own; results are measured anew. What repeats is
what repeats in a hospital: patients come again (a patient's panels follow each other), some hundred physicians, beds
and analytes, each analyte with its unit and range. `VARIES` says so in the benchmark's JSON.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

VARIES = {
    "every message": "MSH-7, MSH-10, order numbers, times of order and observation, every result and its flag",
    "patients": "half of the messages are about one that none of the 20 messages before was about; names, dates of "
    "birth, addresses, telephone numbers, accounts and visits are the patient's own",
    "pools": {"physicians": 300, "beds": 400, "panels": 40, "analytes": 400},
    "value types": "nine in ten NM, else ST, SN or CWE",
    "rounds": "each round converts messages that the process has not seen before",
}
_FAMILIES, _GIVEN, _STREETS = (
    re.findall(r"\w+", names)
    for names in (
        (
            "Abara Becker Castellano Dvorak Eriksen Fontaine Guerrero Halvorsen Ivanova Jankowski Kowalczyk Lindqvist "
            "Moretti Okonkwo Pereira Quigley Rasmussen Sorensen Tanaka Ueda Vasquez Whitfield Xiong Yilmaz Zhang"
        ),
        (
            "Ada Bruno Clara Darius Elena Farid Greta Hugo Iris Jonas Kira Liam Maya Nils Olga Pedro Quinn Rosa Sami "
            "Umar Vera Wanda Ximena Yusuf Zora"
        ),
        "Main Oak Cedar Maple Elm Pine Canal Church Mill Park River Station Bridge Castle School Market",
    )
)
_TOWNS = (("Boston", "MA", "021"), ("Albany", "NY", "122"), ("Hartford", "CT", "061"), ("Portland", "ME", "041"))
_UNITS = ("mmol/L", "g/dL", "mg/dL", "U/L", "10*3/uL", "%", "ng/mL", "mEq/L", "fL", "pg")
_WARDS = ("ICU", "MED", "SURG", "ONC", "CARD", "NEURO", "PED", "OBS")


class Hospital:
    """Writes messages, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = chance = random.Random(seed)
        self._count = seed * 1_000_000
        self._seconds = 0
        self._physicians = [self._physician(n) for n in range(300)]
        self._beds = [f"{_WARDS[n % 8]}^{100 + n // 16}^{'AB'[n // 8 % 2]}^NORTHSIDE" for n in range(400)]
        self._analytes = [self._analyte(n) for n in range(400)]
        self._panels = [(f"{24000 + n}-{n % 10}^Panel {n}^LN", chance.sample(range(400), 10)) for n in range(40)]
        self._recent: list[tuple[str, str]] = []

    def oru(self) -> Iterator[bytes]:
        """Yield ORU^R01 of 15 segments, 10 of them OBX."""
        while True:
            n, now = self._next()
            pid, pv1 = self._patient()
            panel, analytes = self._random.choice(self._panels)
            by = self._random.choice(self._physicians)
            drawn = self._moment(self._seconds - self._random.randrange(1800, 9000))
            yield "\r".join((
                rf"MSH|^~\&|LAB|NORTHSIDE|EHR|WEST|{now}-0500||ORU^R01^ORU_R01|MSG{n}|P|2.5.1",
                pid,
                pv1,
                f"ORC|RE|P{n}^EHR|F{n}^LAB||CM",
                f"OBR|1|P{n}^EHR|F{n}^LAB|{panel}|||{drawn}|||||||||{by}||||||{now}-0500||CH|F",
                *(self._result(i, analyte, drawn) for i, analyte in enumerate(analytes, 1)),
                "",
            )).encode()  # fmt: skip

    def adt(self) -> Iterator[bytes]:
        """Yield ADT^A01, A04 and A08 of structure ADT_A01 with MSH, EVN, PID and PV1."""
        while True:
            n, now = self._next()
            pid, pv1 = self._patient()
            event = self._random.choice(("A01", "A01", "A04", "A08"))
            head = rf"MSH|^~\&|ADT|NORTHSIDE|EHR|WEST|{now}-0500||ADT^{event}^ADT_A01|MSG{n}|P|2.5.1"
            yield "\r".join((head, f"EVN|{event}|{now}", pid, pv1, "")).encode()

    def _next(self) -> tuple[int, str]:
        self._count += 1
        self._seconds += self._random.randrange(1, 40)
        return self._count, self._moment(self._seconds)

    def _moment(self, seconds: int) -> str:
        seconds = max(seconds, 0)
        day, rest = divmod(seconds, 86_400)
        month, day = divmod(day, 28)
        return f"2024{month % 12 + 1:02d}{day + 1:02d}{rest // 3600:02d}{rest // 60 % 60:02d}{rest % 60:02d}"

    def _patient(self) -> tuple[str, str]:
        """Return PID and PV1 of somebody new, or of one of the last twenty."""
        if self._recent and self._random.random() < 0.5:
            return self._random.choice(self._recent)
        pick, n = self._random, self._random.randrange(10_000_000)
        town, state, code = pick.choice(_TOWNS)
        home = (
            f"{pick.randrange(1, 999)} {pick.choice(_STREETS)} St^^{town}^{state}^{code}{pick.randrange(100):02d}^USA^H"
        )
        born = f"{pick.randrange(1930, 2020)}{pick.randrange(1, 13):02d}{pick.randrange(1, 29):02d}"
        pid = (
            f"PID|1||{n}^^^NORTHSIDE^MR||{pick.choice(_FAMILIES)}^{pick.choice(_GIVEN)}^{pick.choice('ABCDEJKLMQRS')}"
            f"||{born}|{pick.choice('FM')}|||{home}||^PRN^PH^^1^617^{pick.randrange(2_000_000, 9_999_999)}"
            f"|||{pick.choice('MSDW')}||ACC{n}"
        )
        came = self._moment(self._seconds - pick.randrange(3600, 400_000))
        pv1 = (
            f"PV1|1|I|{pick.choice(self._beds)}||||{pick.choice(self._physicians)}||||||||||||V{n}^^^NORTHSIDE^VN"
            f"{'|' * 25}{came}"
        )
        self._recent = [*self._recent[-19:], (pid, pv1)]
        return pid, pv1

    def _physician(self, n: int) -> str:
        return f"{1000 + n * 7}^{_FAMILIES[n * 5 % len(_FAMILIES)]}^{_GIVEN[n % len(_GIVEN)]}"

    def _analyte(self, n: int) -> tuple[str, str, float, float]:
        low = round(self._random.uniform(1, 90), 1)
        return (
            f"{2000 + n * 3}-{n % 10}^Analyte {n} in Serum^LN",
            f"{_UNITS[n % 10]}^^UCUM",
            low,
            round(low * self._random.uniform(1.2, 2.5), 1),
        )

    def _result(self, number: int, analyte: int, drawn: str) -> str:
        code, unit, low, high = self._analytes[analyte]
        value = self._random.uniform(low * 0.8, high * 1.2)
        flag = "L" if value < low else "H" if value > high else "N"
        kind, text = "NM", f"{value:.2f}"
        if self._random.random() < 0.1:
            kind, text = self._random.choice((
                ("SN", f"<^{value:.1f}"), ("ST", f"hemolyzed, {value:.1f}"), ("CWE", "260385009^Negative^SCT"),
            ))  # fmt: skip
        return f"OBX|{number}|{kind}|{code}||{text}|{unit}|{low}-{high}|{flag}|||F|||{drawn}"
