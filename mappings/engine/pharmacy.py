"""What a table of rows cannot say of RXO, RXE, RXD, RXA and their neighbours."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mappings.engine.dosage import below, said, say
from mappings.engine.helpers import valued
from mappings.engine.keys import text_of
from mappings.engine.orders import duration_of
from mappings.engine.primitives import number
from mappings.engine.protocols import Components, Segment
from mappings.engine.quantities import unit_of
from mappings.engine.registry import composite, segment, text

if TYPE_CHECKING:
    from mappings.engine.nodes import Node
    from mappings.engine.run import Run

_BATCH = {"RXD": (18, 19, 20), "RXA": (15, 16, 17)}
"""Lot, expiration, manufacturer: another lot is another medication, or a later lot would overwrite an earlier."""
_VOLUME = {"RXO": (25, 26), "RXE": (33, 34), "RXD": (23, 24), "RXA": (23, 24)}
"""The volume that the strength is in, and its unit."""
_MEDICATION = {"RXO": (1, 5, 18, 19), "RXE": (2, 6, 25, 26), "RXD": (2, 6, 16, 17), "RXA": (5, 8, 13, 14)}


def _unknown() -> dict[str, Any]:
    """Return what stands for a value that FHIR requires and the message does not have."""
    return {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }


@segment("medication")
def medication(seg: Segment, run: Run, target: Any) -> None:
    """The drug as a Medication of its own: code, form, strength, and the ingredients that RXC lists."""
    code_at, form_at, strength_at, unit_at = _MEDICATION[seg.name]
    codes = seg.field(code_at)
    concept = run.maps["CWE[CodeableConcept]"](codes[0], run, str(code_at)) if codes else None
    if not concept:
        say(target, f"{seg.name}-{code_at}", "medicationReference", _unknown())
        return
    forms, parts = seg.field(form_at), below(seg, run, "RXC")
    strength = _amount(seg, run, strength_at, unit_at)
    key = [
        repr(codes[0]),
        repr(forms[:1]),
        repr(strength),
        *(repr([part.field(n) for n in (2, 3, 4)]) for part in parts),
        *(f"{n} {seg.field(n)!r}" for n in _BATCH.get(seg.name, ()) if seg.field(n)),
    ]
    node = run.mention("Medication", (False, key))
    node.mention("code", "code", concept)
    if forms:
        form = run.maps["CWE[CodeableConcept]"](forms[0], run, str(form_at), run.tables["RequestedDosageForm"])
        if form:
            node.mention("form", "form", form)
    ingredients = [found for part in parts if (found := _ingredient(part, run))]
    if ingredients or not strength:
        for at in (strength_at, unit_at, *_VOLUME[seg.name]):
            if valued(seg, at):
                run.find("outranked" if strength else "component-not-carried", str(at), "information")
    if strength and not ingredients:
        numerator, denominator = strength
        ingredients = [
            {"itemCodeableConcept": concept, "strength": {"numerator": numerator, "denominator": denominator}}
        ]
    if ingredients:
        node.mention("ingredient", "ingredient", ingredients)
    say(target, f"{seg.name}-{code_at}", "medicationReference", node.pointer())


def _amount(seg: Segment, run: Run, value_at: int, unit_at: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return a drug's strength as an amount and the volume that it is in, one where no volume is said."""
    amount = number(said(seg, value_at)) if said(seg, value_at) else None
    if amount is None:
        return None
    volume_at, volume_unit_at = _VOLUME[seg.name]
    volume = number(said(seg, volume_at)) if said(seg, volume_at) else None
    if volume is None and valued(seg, volume_at):
        run.find("not-a-number", str(volume_at))
    whole = {"value": volume if volume is not None else Decimal(1), **_unit(seg, run, volume_unit_at)}
    return {"value": amount, **_unit(seg, run, unit_at)}, whole


def _unit(seg: Segment, run: Run, at: int) -> dict[str, Any]:
    units = seg.field(at)
    return unit_of(units[0], run, str(at)) if units else {}


def _ingredient(part: Segment, run: Run) -> dict[str, Any] | None:
    """RXC: a base or an additive with its amount."""
    codes = part.field(2)
    with run.reading(part):
        concept = run.maps["CWE[CodeableConcept]"](codes[0], run, "2") if codes else None
        if not concept:
            return None
        amount = number(said(part, 3)) if said(part, 3) else None
        if amount is None and valued(part, 3):
            run.find("not-a-number", "3")
        unit = _unit(part, run, 4)
        if unit and amount is None:
            run.find("component-not-carried", "4")
    found: dict[str, Any] = {"itemCodeableConcept": concept}
    if said(part, 1):
        kind = {"system": "http://terminology.hl7.org/CodeSystem/v2-0166", "code": said(part, 1)}
        found["extension"] = [{"url": "urn:sluice:component-type", "valueCoding": kind}]
    if amount is not None:
        found["strength"] = {"numerator": {"value": amount, **unit}, "denominator": {"value": Decimal(1)}}
    return found


@segment("batch")
def batch(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """Lot number, expiration and manufacturer, as the batch of the drug that was used."""
    lot_at, expires_at, maker_at = _BATCH[seg.name]
    for at in (lot_at, expires_at, maker_at):
        if len(seg.field(at)) > 1:
            run.find("repetition-not-carried", str(at))
    pointer = _medication_of(target)
    if pointer is None:
        return
    node = run.nodes["Medication", pointer.split("/")[1]]
    found: dict[str, Any] = {}
    if said(seg, lot_at):
        found["lotNumber"] = said(seg, lot_at)
    expires = run.date_time(said(seg, expires_at), str(expires_at))
    if expires:
        found["expirationDate"] = expires
    if found:
        node.mention("batch", "batch", found)
    makers = seg.field(maker_at)
    maker = run.maps["CWE[Organization]"](makers[0], run, str(maker_at)) if makers else None
    if maker:
        node.mention("manufacturer", "manufacturer", maker)


def _medication_of(target: dict[str, Any]) -> str | None:
    pointer: str | None = target.get("medicationReference", {}).get("reference")
    return pointer


@segment("given-per")
def given_per(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """RXA-12: the time in which the dose was given, as its rate."""
    time = duration_of(said(seg, 12)) if said(seg, 12) else None
    dose = target.get("dosage", {}).get("dose", {})
    if time and "value" in dose:
        target["dosage"] = {**target["dosage"], "rateRatio": {"numerator": dose, "denominator": time}}
    elif valued(seg, 12):
        run.find("component-not-carried", "12")


@text("dose", "decimal")
def dose_given(value: str, run: Run, at: str, table: Any = None) -> Decimal | None:
    """RXA-6: 999 says that the amount was not recorded."""
    found = number(value)
    if found is None:
        return run.find("not-a-number", at)
    return None if found == 999 else found


_LA2 = frozenset(range(1, 16))


@composite("administered-at", "Reference")
def administered_at(c: Components, run: Run, at: str, table: Any = None) -> Any:
    """RXA-11 and RXD-13 (LA2): the first eight components are those of a PL, the next eight those of an XAD.

    In LA1, of before 2.3.1, the ninth is the whole address.
    """
    run.rest(c, _LA2, at)
    place = run.maps["PL[Location]"](list(c[:8]), run, at)
    parts = [[sub] for sub in c[8]] if len(c) == 9 and len(c[8]) > 1 else list(c[8:15])
    if any(map(any, parts[7:])):
        run.find("component-not-carried", f"{at}.9")
        parts = parts[:7]
    address = run.maps["XAD[Address]"](parts, run, at) if any(map(any, parts)) else None
    if not address:
        return place
    node = run.nodes["Location", place["reference"].split("/")[1]] if place else _of_address(run, repr(parts))
    node.mention("LA2.9", "address", address)
    return node.pointer()


def _of_address(run: Run, words: str) -> Node:
    """Return the place that its address alone names."""
    node = run.mention("Location", (False, ["address", words]))
    node.mention("~PL", "mode", "instance")
    return node


@segment("place-address")
def place_address(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """RXA-28: the address of the place in RXA-27; without one it names a place itself."""
    found = [value for c in seg.field(28) if (value := run.maps["XAD[Address]"](c, run, "28"))]
    if not found:
        return
    if "location" in target:
        node = run.nodes["Location", target["location"]["reference"].split("/")[1]]
    else:
        node = _of_address(run, repr(seg.field(28)[0]))
        target["location"] = node.pointer()
    node.mention("RXA-28", "address", found[0])


@segment("vaccinated-at")
def vaccinated_at(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """RXA-3: FHIR requires when; what is no date, or not there, is an unknown time."""
    start = run.date_time(said(seg, 3), "3")
    if said(seg, 4) and said(seg, 4) != said(seg, 3):
        run.find("outranked", "4", "information")
    if start:
        target["occurrenceDateTime"] = start
    else:
        target["occurrenceString"] = "unknown"


@segment("given-at")
def given_at(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """RXA-3 and 4: FHIR requires when; a start with another end is a period, without either the time is unknown."""
    start, end = (run.date_time(said(seg, at), str(at)) for at in (3, 4))
    if end and end != start:
        target["effectivePeriod"] = {**({"start": start} if start else {}), "end": end}
    elif start:
        target["effectiveDateTime"] = start
    else:
        target["_effectiveDateTime"] = _unknown()


@segment("immunization-source")
def immunization_source(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """RXA-9: whether it was given here (NIP001 00) or is told from a record; other words are a note."""
    for c in seg.field(9):
        code = text_of(c, 1)
        if text_of(c, 3) == "NIP001" or code in {"00", "01", "02", "03", "04", "05", "06", "07", "08"}:
            target["primarySource"] = code == "00"
            if code != "00":
                target["reportOrigin"] = run.maps["CWE[CodeableConcept]"](c, run, "9")
        else:
            words = text_of(c, 2) or code
            run.rest(c, frozenset({2} if text_of(c, 2) else {1}), "9")
            if words:
                target.setdefault("note", []).append({"text": words})


_EDUCATION = {"69764-9": "documentType", "29768-9": "publicationDate", "29769-7": "presentationDate"}


@segment("immunization-detail")
def immunization_detail(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """OBX under an RXA that the Immunization has an element for: eligibility, funding, the information sheet."""
    code, field = seg.value(3), seg.field(5)
    if code in _EDUCATION:
        _education(seg, run, target, _EDUCATION[code])
    if not field or code not in {"64994-7", "30963-3"}:
        return
    value = run.maps["CWE[CodeableConcept]"](field[0], run, "5")
    if value and code == "64994-7":
        target.setdefault("programEligibility", []).append(value)
    elif value:
        target["fundingSource"] = value


def _education(seg: Segment, run: Run, target: dict[str, Any], name: str) -> None:
    """Put one thing said of an information sheet to the others with its OBX-4; a sheet has a type."""
    sheet: dict[str, Any] = run.memory.setdefault(("education", target["id"], seg.value(4)), {})
    for c in seg.field(5)[:1]:
        value = run.date_time(text_of(c, 1), "5") if name.endswith("Date") else text_of(c, 2) or text_of(c, 1)
        if value:
            sheet[name] = value
    if "documentType" in sheet and not any(one is sheet for one in target.get("education", ())):
        target.setdefault("education", []).append(sheet)
