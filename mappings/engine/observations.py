"""OBX-2, 5, 6, 7 and 11 to an Observation's value[x], reference range and absence (HL7 v2.9 chapter 7.4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.attachments import attachment_of, pointer_of
from mappings.engine.helpers import cleared, whole
from mappings.engine.keys import text_of
from mappings.engine.orders import pointer_of_pair
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.registry import composite, finish, segment
from mappings.engine.systems import code_system

if TYPE_CHECKING:
    from mappings.engine.run import Run

Value = tuple[str, Any]
UCUM = "http://unitsofmeasure.org"
ATTACHMENT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.value"
UNIT = "urn:sluice:observation-unit"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_COMPARATORS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "=<": "<=", "=>": ">="}


def unit_of(components: Components | None, run: Run, at: str = "6") -> dict[str, Any]:
    """Return the unit, system and code of a Quantity from OBX-6; a unit without a system is text alone."""
    if not components:
        return {}
    found: dict[str, Any] = run.cached("unit", components, at, None, _unit)
    return found


def _unit(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any]:
    unit, said = _chosen(components, run)
    if len(components) > 1:
        run.rest(components, said, at)
    return unit


def _chosen(components: Components, run: Run) -> tuple[dict[str, Any], frozenset[int]]:
    """Return the unit that a CWE names, and the components that say it.

    Of its codings the one of UCUM, wherever it stands, else the first; a code without its system is said by the text.
    """
    if len(components) == 1:
        code = text_of(components, 1)
        return {"unit": code} if code else {}, _FIRST
    found = [at for at in (1, 4, 10) if text_of(components, at) or text_of(components, at + 1)]
    if not found:
        text = text_of(components, 9)
        return {"unit": text} if text else {}, frozenset({9})
    ucum = (at for at in found if text_of(components, at) and code_system(text_of(components, at + 2)) == UCUM)
    at = next(ucum, found[0])
    code, text, system = (text_of(components, at + step) for step in range(3))
    unit: dict[str, Any] = {"unit": text or code}
    if not code or not system:
        return unit, frozenset({at + 1 if text else at})
    unit.update(system=code_system(system) or run.local_system(system), code=code)
    return unit, frozenset({at, at + 1, at + 2})


@finish("unit-of-quantity")
def unit_of_quantity(c: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CQ.2: unit, system and code."""
    if len(c) > 1 and c[1]:
        value.update(_unit([[sub] for sub in c[1]], run, f"{at}.2"))


_FIRST = frozenset({1})


def quantity(value: str, comparator: str, unit: dict[str, Any]) -> dict[str, Any] | None:
    """Return a Quantity, None where `value` is not a number."""
    amount = number(value)
    if amount is None:
        return None
    result: dict[str, Any] = {"value": amount, **unit}
    if comparator in _COMPARATORS:
        result["comparator"] = _COMPARATORS[comparator]
    return result


def _number(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = text_of(c, 1)
    if not text:
        return None
    plain = quantity(text, "", unit)
    if plain is not None:
        if len(c) > 1:
            run.rest(c, _FIRST, "5")
        return "valueQuantity", plain
    found = re.fullmatch(r"([<>]=?|=[<>])\s*(\S+)", text)
    compared = quantity(found.group(2), found.group(1), unit) if found else None
    if compared is not None:
        return "valueQuantity", compared
    run.find("not-a-number", "5")
    return "valueString", whole(c)


def _structured(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    """SN: comparator ^ number ^ separator ^ number.

    The guide's rows for a Range and for a Ratio share a condition; the separator decides: "-" a range, ":" and "/" a
    ratio, none a quantity, anything else and "<>" the text.
    """
    comparator, first, separator, second = (text_of(c, comp) for comp in (1, 2, 3, 4))
    text = " ".join(part for part in (comparator, first, separator, second, unit.get("unit", "")) if part)
    if not text:
        return None
    one, two = number(first) if first else None, number(second) if second else None
    result: Value | None = None
    if comparator == "<>" or comparator not in {"", "=", *_COMPARATORS}:
        result = None
    elif separator == "-" and not comparator.strip("="):
        ends = {name: {"value": end, **unit} for name, end in (("low", one), ("high", two)) if end is not None}
        result = ("valueRange", ends) if ends else None
    elif separator in {":", "/"} and one is not None and two is not None:
        top = {"value": one, **unit}
        if comparator in _COMPARATORS:
            top["comparator"] = _COMPARATORS[comparator]
        result = "valueRatio", {"numerator": top, "denominator": {"value": two}}
    elif not separator and one is not None and not second:
        result = "valueQuantity", quantity(first, comparator, unit)
    return result or ("valueString", text)


def _concept(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    value = run.maps["CWE[CodeableConcept]"](c, run, "5")
    return ("valueCodeableConcept", value) if value else None


def _code(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = text_of(c, 1)
    return ("valueCodeableConcept", {"coding": [{"code": " ".join(text.split())}]}) if text else None


def _text(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = whole(c).strip()
    return ("valueString", text) if text and text != CLEAR else None


def _moment(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = text_of(c, 1)
    found = run.date_time(text, "5")
    return ("valueDateTime", found) if found else _text(c, run, unit)


def _clock(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = text_of(c, 1)
    found = run.moment(times.clock(text), "5", "not-a-time") if text else None
    return ("valueTime", found) if found else _text(c, run, unit)


def _period(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    value = run.maps["DR[Period]"](c, run, "5")
    return ("valuePeriod", value) if value else _text(c, run, unit)


def _range(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    ends = {}
    for name, comp in (("low", 1), ("high", 2)):
        amount = number(text_of(c, comp)) if text_of(c, comp) else None
        if amount is not None:
            ends[name] = {"value": amount, **unit}
        elif text_of(c, comp):
            run.find("not-a-number", f"5.{comp}")
            return _text(c, run, unit)
    return ("valueRange", ends) if ends else _text(c, run, unit)


def _composite_quantity(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    own = unit_of([[sub] for sub in c[1]], run, "5.2") if len(c) > 1 else {}
    value = quantity(text_of(c, 1), "", own or unit)
    return ("valueQuantity", value) if value else _text(c, run, unit)


def _attachment(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    value = attachment_of(c, run, "5")
    return ("extension", {"url": ATTACHMENT, "valueAttachment": value}) if value else None


def _pointer(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    value = pointer_of(c, run, "5")
    return ("extension", {"url": ATTACHMENT, "valueAttachment": value}) if value else None


def _person(name: str) -> Callable[[Components, Run, dict[str, Any]], Value | None]:
    def convert(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
        comps = c[1:] if name == "XCN" else c
        order = (4, 1, 2, 0, 3) if name in {"XPN", "XCN"} else range(len(comps))
        parts = [text_of(comps, at + 1) for at in order]
        text = " ".join(part for part in parts if part)
        if text:
            said = range(2, 7) if name == "XCN" else range(1, 6) if name == "XPN" else range(1, len(c) + 1)
            run.rest(c, frozenset(said), "5")
        text = text or whole(c)
        return ("valueString", text) if text else None

    return convert


_BY_TYPE: dict[str, Callable[[Components, Run, dict[str, Any]], Value | None]] = {
    "NM": _number, "SI": _number, "SN": _structured, "MO": _composite_quantity, "CQ": _composite_quantity,
    "CE": _concept, "CWE": _concept, "CNE": _concept, "CF": _concept, "CNN": _person("XCN"), "IS": _code, "ID": _code,
    "ST": _text, "TX": _text, "FT": _text, "VR": _text, "DT": _moment, "DTM": _moment, "TS": _moment, "TM": _clock,
    "DR": _period, "NR": _range, "ED": _attachment, "RP": _pointer, "XPN": _person("XPN"), "PN": _person("XPN"),
    "EI": _text, "CX": _text, "HD": _text, "PL": _text, "XON": _text, "EIP": _text, "TN": _text, "CK": _text,
    "XCN": _person("XCN"), "CN": _person("XCN"), "XAD": _person("XAD"), "AD": _person("XAD"), "XTN": _person("XTN"),
}  # fmt: skip


_MEASURES = frozenset({_number, _structured, _range, _composite_quantity})


def _sampled(seg: Segment, run: Run, unit: dict[str, Any]) -> Value | None:
    """NA and MA: all repetitions and components as one SampledData, the row's length its dimensions."""
    rows = [[text_of(c, comp) for comp in range(1, len(c) + 1)] for c in seg.field(5)]
    flat = [value for row in rows for value in row]
    if not any(flat) or any(value and number(value) is None for value in flat):
        if any(flat):
            run.find("not-a-number", "5")
            return "valueString", " ".join(flat)
        return None
    return "valueSampledData", {
        "origin": {"value": 0, **unit},
        "period": 1,
        "dimensions": max(1, len(rows)),
        "data": " ".join(value or "E" for column in zip(*_even(rows), strict=True) for value in column),
    }


def _even(rows: list[list[str]]) -> list[list[str]]:
    width = max(len(row) for row in rows)
    return [row + [""] * (width - len(row)) for row in rows]


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
    kind = seg.value(2).strip().upper()
    if not field or not any(map(any, field)):
        _unit_alone(seg, run, target)
        return
    if cleared(field):
        if run.node is not None:
            run.node.clear("OBX-5", "value")
        return
    if kind in {"NA", "MA"}:
        _put(target, _sampled(seg, run, unit))
        return
    convert = _BY_TYPE.get(kind)
    if convert is None:
        if kind:
            run.find("unknown-value-type", "2")
        convert = _text
    if len(field) == 1:
        _put(target, convert(field[0], run, unit))
    else:
        _several(field, convert, run, unit, target)
    if more or convert not in _MEASURES:
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
        unit, said = _chosen(field[0], run) if field else ({}, _FIRST)
        more = any(at not in said and any(part) for at, part in enumerate(field[0] if field else (), 1))
        found = unit, more, _ranges(seg.field(7), unit)
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


def _several(field: Any, convert: Any, run: Run, unit: dict[str, Any], target: dict[str, Any]) -> None:
    """Repetitions of text are its lines; of anything else each is a component with the observation's code."""
    if convert is _text:
        lines = [value[1] for value in (_text(c, run, unit) for c in field) if value]
        if lines:
            target["valueString"] = "\n".join(lines)
        return
    for c in field:
        value = convert(c, run, unit)
        if value is None:
            continue
        if value[0] == "extension":
            target.setdefault("extension", []).append(value[1])
            continue
        component = {"code": target.get("code", {"text": "unknown"}), value[0]: value[1]}
        target.setdefault("component", []).append(component)


_RANGE = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*(?:-|–|to|\.\.)\s*([-+]?\d+(?:\.\d+)?)\s*")
_BOUND = re.compile(r"\s*(<=|>=|<|>|=<|=>)\s*([-+]?\d+(?:\.\d+)?)\s*")


def _ranges(field: Any, unit: dict[str, Any]) -> list[dict[str, Any]]:
    """OBX-7: the text as it came, and low and high where it is `low-high`, `<high`, `>low`."""
    texts = [whole(components).strip() for components in field]
    return [{**_ends(text, unit), "text": text} for text in texts if text and text != CLEAR]


@lru_cache(maxsize=65536)
def _parsed(text: str) -> tuple[Decimal | None, Decimal | None]:
    """Return the low and the high end of a reference range."""
    found = _RANGE.fullmatch(text)
    if found:
        return number(found.group(1)), number(found.group(2))
    found = _BOUND.fullmatch(text)
    if found:
        amount = number(found.group(2))
        return (None, amount) if "<" in found.group(1) else (amount, None)
    return None, None


def _ends(text: str, unit: dict[str, Any]) -> dict[str, Any]:
    low, high = _parsed(text)
    ends = {}
    if low is not None:
        ends["low"] = {"value": low, **unit}
    if high is not None:
        ends["high"] = {"value": high, **unit}
    return ends


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
