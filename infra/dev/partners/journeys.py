"""What happens to the hospital's patients in a day, as HL7 v2 events."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Literal

from infra.dev.partners import vocabulary as words
from infra.dev.partners.model import Taken
from infra.dev.partners.orders import Order, oru
from infra.dev.partners.people import Person, later, moment
from infra.dev.partners.segments import FACILITIES, Facility, Visit, pid, pv1, segment

STRUCTURES = {"A01": "ADT_A01", "A03": "ADT_A03", "A04": "ADT_A01", "A08": "ADT_A01", "A40": "ADT_A39"}
UNITS = ("4W^401^A", "4W^402^B", "ICU^03^1", "MED2^210^A", "SURG^112^B", "OB^07^1")


@dataclass(frozen=True, slots=True)
class Event:
    """One message to come: `body` are its segments after MSH, `file` the kind of file it goes to."""

    when: datetime
    facility: Facility
    kind: str
    body: tuple[str, ...]
    file: Literal["ADT", "ORU", "A40"]


@dataclass(frozen=True, slots=True)
class Told:
    """What a journey's messages say in all, whoever converts them."""

    mrns: frozenset[str]
    visits: frozenset[str]
    reports: frozenset[str]
    observations: frozenset[tuple[str, str]]


def adt(
    trigger: str,
    when: datetime,
    facility: Facility,
    one: Person,
    visit: Visit,
    *,
    kin: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> Event:
    """Return an ADT event about `one` in `visit`; `kin` stands before PV1, `more` after it."""
    evn = segment("EVN", {1: trigger, 2: facility.time(when), 5: "OPR7^Registrar", 6: facility.time(when)})
    body = (evn, pid(one, f"A{visit.number[1:]}"), *kin, pv1(visit, facility), *more)
    return Event(when, facility, f"ADT^{trigger}^{STRUCTURES[trigger]}", body, "ADT")


def merge(when: datetime, facility: Facility, survivor: Person, gone: Person) -> Event:
    """Return the A40 that merges the record number of `gone` into that of `survivor`."""
    evn = segment("EVN", {1: "A40", 2: facility.time(when)})
    mrg = segment("MRG", {1: f"{gone.number}^^^NORTHSIDE^MR", 7: f"{gone.family}^{gone.given}"})
    return Event(when, facility, "ADT^A40^ADT_A39", (evn, pid(survivor), mrg), "A40")


class Journey:
    """Draws the day of one patient."""

    def __init__(self, dice: random.Random, day: date, number: int, one: Person) -> None:
        self.dice, self.day, self.one = dice, day, one
        drawn = dice.choices(FACILITIES, (5, 3, 2))[0]
        self.facility: Facility = drawn if drawn.writes(one.family) else FACILITIES[0]
        self.inpatient = self.facility.code != "NWC" and dice.random() < 0.62
        self.start = dice.uniform(20, 420 if self.inpatient else 900)
        self.visit = Visit(
            number=f"V{day:%y%m%d}{number:04d}",
            patient_class="I" if self.inpatient else "O",
            location=dice.choice(UNITS) if self.inpatient else "CLINIC^2^",
            doctor=dice.choice(words.DOCTORS),
            service=dice.choice(("MED", "SUR", "CAR", "PUL")),
            admitted=moment(day, self.start),
        )
        self.orders: list[Order] = []
        self.corrected: set[str] = set()

    def events(self) -> Iterator[Event]:
        """Yield the patient's messages: registration, updates, orders with their results, discharge."""
        at = self.start
        nk1, *more = self._admission()
        yield self._adt("A01" if self.inpatient else "A04", at, (nk1,), tuple(more))
        for _ in range(self.dice.randrange(3, 5) if self.inpatient else self.dice.randrange(1, 3)):
            at += self.dice.uniform(15, 120)
            yield from self._results(at)
        if self.inpatient:
            self.visit = replace(self.visit, location=self.dice.choice(UNITS))
        yield self._adt("A08", at + 20)
        if self.dice.random() < 0.7:
            out = min(at + self.dice.uniform(200, 320), 1360.0)
            self.visit = replace(self.visit, discharged=moment(self.day, out))
            yield self._adt("A03", out)

    def told(self) -> Told:
        """Return what `events` told."""
        seen = frozenset((order.filler, test) for order in self.orders for test in order.tests())
        fillers = frozenset(order.filler for order in self.orders)
        return Told(frozenset((self.one.number,)), frozenset((self.visit.number,)), fillers, seen)

    def taken(self) -> Iterator[Taken]:
        """Yield the results that stand in the end; every report becomes final."""
        for order in self.orders:
            first = order.corrected if order.filler in self.corrected else order.results[0]
            for result in (first, *order.results[1:]):
                value = result.value.partition("^")[0] if result.kind == "CWE" else result.value.replace("^", "")
                yield self.one.number, result.loinc, order.collected, value

    def _adt(self, trigger: str, at: float, kin: tuple[str, ...] = (), more: tuple[str, ...] = ()) -> Event:
        return adt(trigger, moment(self.day, at), self.facility, self.one, self.visit, kin=kin, more=more)

    def _admission(self) -> tuple[str, ...]:
        icd, text, _snomed, _term = self.dice.choice(words.CONDITIONS)
        kin = f"{self.one.family}^{self.dice.choice(words.GIVEN_M)}"
        phone = f"^PRN^PH^^1^555^{self.dice.randrange(10**7):07d}"
        nk1 = segment("NK1", {1: "1", 2: kin, 3: "SPO^Spouse^HL70063", 5: phone})
        dg1 = segment("DG1", {1: "1", 3: f"{icd}^{text}^I10", 5: self.facility.time(self.visit.admitted), 6: "A"})
        al1 = segment("AL1", {1: "1", 2: "DA^Drug allergy^HL70127", 3: "7980^penicillin G^RXNORM", 4: "MO"})
        return (nk1, al1, dg1) if self.dice.random() < 0.4 else (nk1, dg1)

    def _results(self, at: float) -> Iterator[Event]:
        order = Order.draw(self.dice, f"{self.visit.number[1:]}{len(self.orders) + 1}", moment(self.day, at))
        self.orders.append(order)
        stages = ["F"] if self.dice.random() < 0.45 else ["P", "F"]
        if self.dice.random() < 0.12:
            stages.append("C")
            self.corrected.add(order.filler)
        for number, status in enumerate(stages):
            when = later(order.collected, 45 + 55 * number)
            body = (pid(self.one), pv1(self.visit, self.facility), *oru(order, status, when, self.facility))
            yield Event(when, self.facility, "ORU^R01^ORU_R01", body, "ORU")
