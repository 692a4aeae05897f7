"""OBX-2, 5, 6, 7 and 11 to an Observation's value[x], reference range and absence (HL7 v2.9 chapter 7.4.2)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mappings.engine.helpers import cleared
from mappings.engine.keys import text_of
from mappings.engine.orders import pointer_of_pair
from mappings.engine.primitives import number
from mappings.engine.protocols import Components, Segment
from mappings.engine.quantities import FIRST, chosen, reference_ranges
from mappings.engine.registry import composite, segment
from mappings.engine.values import Value, values_of

if TYPE_CHECKING:
    from mappings.engine.run import Run

UNIT = "urn:sluice:observation-unit"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


@segment("observation-value")
def observation_value(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """OBX-5 as OBX-2 says: one value, components for repetitions of coded and measured values, lines for text.

    OBX-6 gives the unit of the value and of the reference range in OBX-7.
    """
    unit, more = _around(seg, run, target)
    texts = seg.texts
    if len(texts) > 5 and texts[2] == "NM":
        amount = _plain_number(seg, texts[5], run)
        if amount is not None:
            target["valueQuantity"] = {"value": amount, **unit}
            if more:
                _unit_alone(seg, run, target)
            return
    field = seg.field(5)
    if not field or not any(map(any, field)):
        _unit_alone(seg, run, target)
        return
    if cleared(field):
        if run.node is not None:
            run.node.clear("OBX-5", "value")
        return
    found, said = values_of(seg, run, unit)
    if len(found) == 1:
        _put(target, found[0])
    else:
        _several(found, target)
    if more or not said:
        _unit_alone(seg, run, target)


def _plain_number(seg: Segment, text: str, run: Run) -> Decimal | None:
    """Return the number that OBX-5 is as a whole; a separator is no part of one, even if it is `.` or `-`."""
    amount = number(text)
    if amount is None or (text.replace(".", "", 1).isalnum() and "." not in run.message.context):
        return amount
    return amount if seg.field(5) == (((text,),),) else None


def _unit_alone(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """OBX-6 where the value takes no unit, or not all of it: kept beside it, for it says what the text means."""
    units = seg.field(6)
    concept = run.maps["CWE[CodeableConcept]"](units[0], run, "6") if units else None
    if concept:
        target.setdefault("extension", []).append({"url": UNIT, "valueCodeableConcept": concept})


def _around(seg: Segment, run: Run, target: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the unit in OBX-6, and whether there is more in it than the unit says; set the reference ranges in OBX-7.

    An analyte brings both fields in the same words.
    """
    texts = seg.texts
    units, ranges = texts[6] if len(texts) > 6 else "", texts[7] if len(texts) > 7 else ""
    known = run.recall.words["OBX-6, OBX-7"]
    key = (units, ranges)
    found: tuple[dict[str, Any], bool, list[Any]] | None = known.get(key)
    if found is None:
        field, before = seg.field(6), len(run.conversion.findings)
        unit, said = chosen(field[0], run) if field else ({}, FIRST)
        more = any(at not in said and any(part) for at, part in enumerate(field[0] if field else (), 1))
        found = unit, more, reference_ranges(seg.field(7), unit)
        if len(units) + len(ranges) <= _LONGEST and before == len(run.conversion.findings):
            known[key] = found
    if found[2]:
        target["referenceRange"] = [*target.get("referenceRange", ()), *found[2]]
    return found[0], found[1]


_LONGEST = 200
"""Characters of the longest unit and range that are remembered."""


def _put(target: dict[str, Any], value: Value | None) -> None:
    if value is None:
        return
    if value[0] == "extension":
        target.setdefault("extension", []).append(value[1])
    else:
        target[value[0]] = value[1]


def _several(found: list[Value | None], target: dict[str, Any]) -> None:
    """Each repetition is a component with the observation's code."""
    for value in found:
        if value is None:
            continue
        if value[0] == "extension":
            target.setdefault("extension", []).append(value[1])
            continue
        component = {"code": target.get("code", {"text": "unknown"}), value[0]: value[1]}
        target.setdefault("component", []).append(component)


@segment("observation-absence")
def observation_absence(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """OBX-11 X and N without a value: why there is none; the guide's codes, X being one that R4 does not have."""
    status = seg.value(11)
    if status not in {"X", "N"} and "dataAbsentReason" not in target:
        return
    if any(name.startswith("value") for name in target):
        if target.pop("dataAbsentReason", None):
            # FHIR has a reason only where there is no value.
            run.find("outranked", "32", "information")
        return
    if status not in {"X", "N"}:
        return
    code, display = ("not-asked", "Not Asked") if status == "N" else ("error", "Error")
    reason = {"coding": [{"system": ABSENT, "code": code, "display": display}]}
    target.setdefault("dataAbsentReason", reason)


@composite("observation-type", "CodeableConcept")
def observation_type(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBX-29 (HL7 table 0936)."""
    code = text_of(c, 1)
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0936", "code": code}]} if code else None


@composite("observation-subtype", "CodeableConcept")
def observation_subtype(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBX-30 (HL7 table 0937)."""
    code = text_of(c, 1)
    return {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0937", "code": code}]} if code else None


@composite("specimen-pointer", "Reference")
def specimen_pointer(c: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBX-33: the specimen by its filler's, else its placer's identifier."""
    return pointer_of_pair(c, run, at, "Specimen", ("Filler", "Placer"))
