"""OBX-5 as OBX-2 says: a value of FHIR for each data type of HL7 (HL7 v2.9 chapter 7.4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.attachments import attachment_of, pointer_of
from mappings.engine.helpers import whole
from mappings.engine.keys import text_of
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.quantities import COMPARATORS, FIRST, quantity, unit_of

if TYPE_CHECKING:
    from mappings.engine.run import Run

Value = tuple[str, Any]
ATTACHMENT = "http://hl7.org/fhir/5.0/StructureDefinition/extension-Observation.value"


def _number(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
    text = text_of(c, 1)
    if not text:
        return None
    plain = quantity(text, "", unit)
    if plain is not None:
        if len(c) > 1:
            run.rest(c, FIRST, "5")
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
    if comparator == "<>" or comparator not in {"", "=", *COMPARATORS}:
        result = None
    elif separator == "-" and not comparator.strip("="):
        ends = {name: {"value": end, **unit} for name, end in (("low", one), ("high", two)) if end is not None}
        result = ("valueRange", ends) if ends else None
    elif separator in {":", "/"} and one is not None and two is not None:
        top = {"value": one, **unit}
        if comparator in COMPARATORS:
            top["comparator"] = COMPARATORS[comparator]
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


def _beyond_first(comps: Components, run: Run, before: int) -> None:
    """Note subcomponents (a prefix of a family name, a street's number) that the first one does not say too."""
    for comp, subs in enumerate(comps, 1):
        for sub in range(2, len(subs) + 1):
            text = text_of(comps, comp, sub)
            if text and text not in subs[0]:
                run.find("component-not-carried", f"5.{before + comp}.{sub}")


def _person(name: str) -> Callable[[Components, Run, dict[str, Any]], Value | None]:
    def convert(c: Components, run: Run, unit: dict[str, Any]) -> Value | None:
        comps = c[1:] if name == "XCN" else c
        order = (4, 1, 2, 0, 3) if name in {"XPN", "XCN"} else range(len(comps))
        _beyond_first(comps[: len(order)], run, len(c) - len(comps))
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
    "DT": _moment, "DTM": _moment, "TS": _moment, "TM": _clock, "DR": _period, "NR": _range, "ED": _attachment,
    "RP": _pointer, "XPN": _person("XPN"), "PN": _person("XPN"), "XCN": _person("XCN"), "CN": _person("XCN"),
    "XAD": _person("XAD"), "AD": _person("XAD"), "XTN": _person("XTN"),
    **dict.fromkeys((
        "ST", "TX", "FT", "VR", "EI", "CX", "HD", "PL", "XON", "EIP", "TN", "CK", "CD", "CP", "DLD", "DLN", "ERL", "FC",
        "GTS", "JCC", "LA1", "LA2", "OG", "PLN", "PPN", "RI", "RPT", "SAD", "SPS", "TQ", "VH", "VID",
    ), _text),
}  # fmt: skip
"""By OBX-2 what makes a value of a repetition of OBX-5; what FHIR has no type for is a text, its components in it."""
_WITH_UNIT = frozenset({"valueQuantity", "valueRange", "valueRatio", "valueSampledData"})


def values_of(seg: Segment, run: Run, unit: dict[str, Any]) -> tuple[list[Value | None], bool]:
    """Return what OBX-5 says, a value for each repetition, and whether all of them say the unit.

    Lines of a text are one value, and so are samples.
    """
    kind = seg.value(2).strip().upper()
    found = _values(kind, seg, run, unit)
    return found, kind == "SN" or all(value is not None and value[0] in _WITH_UNIT for value in found)


def _values(kind: str, seg: Segment, run: Run, unit: dict[str, Any]) -> list[Value | None]:
    if kind in {"NA", "MA"}:
        return [_sampled(seg, run, unit)]
    convert = _BY_TYPE.get(kind)
    if convert is None:
        if kind:
            run.find("unknown-value-type", "2")
        convert = _text
    found = [convert(c, run, unit) for c in seg.field(5)]
    if convert is not _text or len(found) == 1:
        return found
    lines = [value[1] for value in found if value]
    return [("valueString", "\n".join(lines)) if lines else None]


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
