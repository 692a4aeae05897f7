"""How a drug is taken: what RXO, RXE and RXD say, with the TQ1 and RXR that belong to them, as Dosage."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mappings.engine.helpers import valued
from mappings.engine.keys import text_of
from mappings.engine.nodes import Node, put
from mappings.engine.orders import OF_TQ, duration_of, timing_from_tq1, timing_of, timing_priority
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.quantities import unit_of
from mappings.engine.registry import action, segment

if TYPE_CHECKING:
    from mappings.engine.run import Run

_UCUM = "http://unitsofmeasure.org"
_DOSE = {"RXO": (2, 3, 4), "RXE": (3, 4, 5)}
_DAILY = {"RXO": 23, "RXE": 19, "RXD": 12}
_INSTRUCTIONS = {"RXO": 7, "RXE": 7}
_WHERE = ((1, "route", "RouteOfAdministration"), (2, "site", "BodyParts"), (4, "method", "AdministrationMethod"))


def say(target: Any, slot: str, path: str, value: Any) -> None:
    """Put a value into a living thing's slot, or into a fact."""
    if isinstance(target, Node):
        target.say(slot, path, value)
    else:
        put(target, path, value)


def said(seg: Segment, at: int, comp: int = 1) -> str:
    """Return a value, empty where it is absent or cleared."""
    text = seg.value(at, 1, comp).strip()
    return "" if text == CLEAR else text


def below(seg: Segment, run: Run, name: str) -> list[Segment]:
    """Return the segments called `name` that stand below `seg`; else those of the encoded order, else of the order."""
    found = run.scope.every(name)
    for anchor in (seg, run.scope.segment("RXE"), run.scope.segment("RXO")):
        after = [one for one in found if anchor is not None and one.index > anchor.index]
        if after:
            found = after
            break
    run.memory.setdefault("heard", set()).update(one.index for one in found)
    return found


@action("heard")
def heard(seg: Segment, run: Run) -> None:
    """A TQ1, RXR or RXC that no drug was read with is noted: those of the encoded order go first."""
    if seg.index not in run.memory.get("heard", ()):
        run.find("outranked", "", "information")


@segment("dosage")
def dosage(seg: Segment, run: Run, target: Any) -> None:
    """A dosage instruction for each timing (TQ1, or a repetition of RXE-1 or ORC-7) and each route (RXR).

    Several timings follow each other; several routes of one timing are alternatives.
    """
    base = _base(seg, run)
    timings, routes = _timings(seg, run), _routes(seg, run)
    if "doseAndRate" in base and any("doseAndRate" in timing for timing in timings):
        _quantity_outranked(seg, run)
    if isinstance(target, Node):
        _priority(seg, run, target)
    instructions = []
    for place, timing in enumerate(timings, 1):
        order = {"sequence": place} if len(timings) > 1 else {}
        for route in routes:
            one = _joined(base, timing, route)
            if one:
                instructions.append({**order, **one})
    if instructions:
        say(target, f"{seg.name}-dose", "dosageInstruction", instructions)


def _priority(seg: Segment, run: Run, target: Node) -> None:
    """Say the priority of the timing before TQ1: of RXE-1, else of ORC-7."""
    for old, at in ((seg if seg.name == "RXE" else None, 1), (run.scope.segment("ORC"), 7)):
        if run.scope.segment("TQ1") is None and old is not None and valued(old, at):
            with run.reading(old):
                timing_priority(old.field(at)[0], run, target, f"{old.name}-{at}")
            return


def _quantity_outranked(seg: Segment, run: Run) -> None:
    """Note the quantity of a timing beside the dose of the drug's own segment."""
    for one in below(seg, run, "TQ1"):
        with run.reading(one):
            if valued(one, 2):
                run.find("outranked", "2", "information")


def _joined(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return the parts as one, their additional instructions in a row, their texts one below the other."""
    result: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if name == "additionalInstruction":
                result[name] = [*result.get(name, []), *value]
            elif name == "text" and name in result:
                result[name] = f"{result[name]}\n{value}"
            elif name == "doseAndRate" and name in result:
                # What the drug's own segment says of the dose goes before the quantity of a timing.
                continue
            else:
                result[name] = value
    return result


def _base(seg: Segment, run: Run) -> dict[str, Any]:
    result: dict[str, Any] = {}
    dose = _dose(seg, run)
    if dose:
        result["doseAndRate"] = [dose]
    for c in seg.field(_INSTRUCTIONS.get(seg.name, 999)):
        value = run.maps["CWE[CodeableConcept]"](c, run, str(_INSTRUCTIONS[seg.name]))
        if value:
            result.setdefault("additionalInstruction", []).append(value)
            words = text_of(c, 9) or text_of(c, 2) or text_of(c, 1)
            if words:
                result["text"] = f"{result['text']}\n{words}" if "text" in result else words
    at = _DAILY.get(seg.name, 999)
    for c in seg.field(at)[:1]:
        most = run.maps["CQ[Quantity]"](c, run, str(at))
        if most and "value" in most:
            day = {"value": Decimal(1), "unit": "d", "system": _UCUM, "code": "d"}
            result["maxDosePerPeriod"] = {"numerator": most, "denominator": day}
    return result


def _dose(seg: Segment, run: Run) -> dict[str, Any] | None:
    if seg.name not in _DOSE:
        return None
    low_at, high_at, unit_at = _DOSE[seg.name]
    units = seg.field(unit_at)
    unit = unit_of(units[0], run, str(unit_at)) if units else {}
    low, high = (_number(seg, run, at) for at in (low_at, high_at))
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/dose-rate-type", "code": "ordered"}]}
    found: dict[str, Any] = {"type": kind}
    if low is not None and high is not None and low != high:
        found["doseRange"] = {"low": {"value": low, **unit}, "high": {"value": high, **unit}}
    elif low is not None or high is not None:
        found["doseQuantity"] = {"value": low if low is not None else high, **unit}
    elif unit:
        run.find("component-not-carried", str(unit_at))
    _rate(seg, run, found)
    return found if len(found) > 1 else None


_RATE = {"RXO": (17, 21, 22), "RXE": (22, 23, 24)}


def _rate(seg: Segment, run: Run, found: dict[str, Any]) -> None:
    """The rate with its unit (RXE-23, 24); else the dose per unit of time (RXE-22)."""
    per_at, rate_at, unit_at = _RATE[seg.name]
    rate, units = _number(seg, run, rate_at), seg.field(unit_at)
    if rate is not None:
        found["rateQuantity"] = {"value": rate, **(unit_of(units[0], run, str(unit_at)) if units else {})}
        if valued(seg, per_at):
            run.find("outranked", str(per_at), "information")
        return
    if valued(seg, unit_at):
        run.find("component-not-carried", str(unit_at))
    time = duration_of(said(seg, per_at)) if said(seg, per_at) else None
    if time and "doseQuantity" in found:
        found["rateRatio"] = {"numerator": found["doseQuantity"], "denominator": time}
    elif said(seg, per_at):
        run.find("component-not-carried", str(per_at))


def _number(seg: Segment, run: Run, at: int) -> Decimal | None:
    value = said(seg, at)
    if not value:
        return None
    found = number(value)
    return found if found is not None else run.find("not-a-number", str(at))


def _timings(seg: Segment, run: Run) -> list[dict[str, Any]]:
    found = [one for tq1 in below(seg, run, "TQ1") if (one := _of_tq1(tq1, run))]
    for old, at in ((seg if seg.name == "RXE" else None, 1), (run.scope.segment("ORC"), 7)):
        if old is None or not valued(old, at):
            continue
        with run.reading(old):
            if found:
                outranked_field(run, seg, old, at)
            else:
                found = [one for c in old.field(at) if (one := _of_tq(c, run, str(at)))]
    return found or [{}]


def outranked_field(run: Run, seg: Segment, old: Segment, at: int) -> None:
    """Note a timing that another field says anew, unless it says the same in the same words."""
    if old is seg or seg.name != "RXE" or seg.field(1) != old.field(at):
        run.find("outranked", str(at), "information")


def _of_tq(c: Components, run: Run, at: str) -> dict[str, Any]:
    """Return what a TQ, the timing before TQ1, says of a dosage: quantity (1), timing, condition (7), text (8)."""
    timing = timing_of(c, run, at)
    result: dict[str, Any] = {"timing": timing} if timing else {}
    if text_of(c, 1):
        amount = number(text_of(c, 1))
        if amount is None:
            run.find("not-a-number", f"{at}.1")
        else:
            result["doseAndRate"] = [_ordered(amount, text_of(c, 1, 2))]
    if text_of(c, 7):
        result["additionalInstruction"] = [{"text": text_of(c, 7)}]
    if text_of(c, 8):
        result["text"] = text_of(c, 8)
    if "PRN" in {text_of(c, 2).upper()[:3], text_of(c, 6).upper()}:
        result["asNeededBoolean"] = True
    run.rest(c, OF_TQ, at)
    return result


def _ordered(amount: Decimal, unit: str) -> dict[str, Any]:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/dose-rate-type", "code": "ordered"}]}
    return {"type": kind, "doseQuantity": {"value": amount, **({"unit": unit} if unit else {})}}


def _of_tq1(tq1: Segment, run: Run) -> dict[str, Any]:
    """Return a TQ1's timing, and its words: the condition (10) and the text (11)."""
    with run.reading(tq1):
        timing = timing_from_tq1(tq1, run)
    result: dict[str, Any] = {"timing": timing} if timing else {}
    with run.reading(tq1):
        for c in tq1.field(2)[:1]:
            dose = run.maps["CQ[Quantity]"](c, run, "2")
            if dose and "value" in dose:
                result["doseAndRate"] = [{**_ordered(dose["value"], ""), "doseQuantity": dose}]
            elif dose:
                run.find("component-not-carried", "2")
    if said(tq1, 10):
        result["additionalInstruction"] = [{"text": said(tq1, 10)}]
    if said(tq1, 11):
        result["text"] = said(tq1, 11)
    if "PRN" in {tq1.value(3).upper()[:3], tq1.value(9).upper()}:
        result["asNeededBoolean"] = True
    return result


def _routes(seg: Segment, run: Run) -> list[dict[str, Any]]:
    found = []
    for rxr in below(seg, run, "RXR"):
        with run.reading(rxr):
            found.append(_of_rxr(rxr, run))
    return [one for one in found if one] or [{}]


def _of_rxr(rxr: Segment, run: Run) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for at, name, table in _WHERE:
        field = rxr.field(at)
        value = run.maps["CWE[CodeableConcept]"](field[0], run, str(at), run.tables[table]) if field else None
        if value:
            result[name] = value
    for c in rxr.field(3)[:1]:
        value = run.maps["CWE[CodeableConcept]"](c, run, "3")
        if value:
            result["extension"] = [{"url": "urn:sluice:administration-device", "valueCodeableConcept": value}]
    for c in rxr.field(5)[:1]:
        value = run.maps["CWE[CodeableConcept]"](c, run, "5", run.tables["RoutingInstruction"])
        if value:
            result["additionalInstruction"] = [value]
    return result


@segment("dosage-timing")
def dosage_timing(seg: Segment, run: Run, target: Node) -> None:
    """TQ1 of a medication: its timing is in the dosage of RXO or RXE; without either it stands here."""
    if run.scope.segment("RXE") is None and run.scope.segment("RXO") is None:
        run.memory.setdefault("heard", set()).add(seg.index)
        found = _of_tq1(seg, run)
        if found:
            target.say("TQ1", "dosageInstruction", [found])
