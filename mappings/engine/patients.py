"""What a table of rows cannot say of patients, visits and headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.helpers import valued, whole
from mappings.engine.keys import text_of
from mappings.engine.primitives import number
from mappings.engine.protocols import CLEAR, Components, Segment
from mappings.engine.registry import action, composite, segment, text

if TYPE_CHECKING:
    from mappings.engine.run import Run


@text("time-of-birth", "dateTime")
def time_of_birth(value: str, run: Run, at: str, table: Any = None) -> str | None:
    """The birth's time of day, where PID-7 has one."""
    found = times.read(value.strip(), run.timezone)
    return run.moment(found, at) if found.value and "T" in found.value else None


@composite("county", "Address")
def county(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PID-12 as an address of its own that says the district alone.

    The guide puts it into PID-11's address when there is just one. Slots do not reach into each other's list
    elements, and the county of an unknown one of several addresses belongs to none of them.
    """
    text = text_of(components, 1)
    return {"district": text} if text else None


@composite("social-security", "Identifier")
def social_security(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PID-19 as the guide has it, with the system of the United States."""
    text = text_of(components, 1)
    if not text:
        return None
    coding = {
        "system": "http://terminology.hl7.org/CodeSystem/v2-0203",
        "code": "SS",
        "display": "Social Security number",
    }
    return {"value": text, "system": "http://hl7.org/fhir/sid/us-ssn", "type": {"coding": [coding]}}


@composite("address-text", "Address")
def address_text(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    text = whole(components).strip()
    return {"text": text} if text else None


_US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
_OMB = {
    "race": {"1002-5", "2028-9", "2054-5", "2076-8", "2106-3", "2131-1"},
    "ethnicity": {"2135-2", "2186-5"},
}
_ETHNIC = {"H": ("2135-2", "Hispanic or Latino"), "N": ("2186-5", "Not Hispanic or Latino")}


def _us_core(components: Components, run: Run, kind: str) -> dict[str, Any] | None:
    concept = run.maps["CWE[CodeableConcept]"](components, run, "10" if kind == "race" else "22")
    if not concept:
        return None
    inner: list[dict[str, Any]] = []
    for coding in concept.get("coding", []):
        named = coding
        if kind == "ethnicity" and coding.get("code") in _ETHNIC:
            code, display = _ETHNIC[coding["code"]]
            named = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}
        where = "ombCategory" if named.get("code") in _OMB[kind] else "detailed"
        inner.append({"url": where, "valueCoding": named})
    first = concept.get("coding", [{}])[0]
    shown = concept.get("text") or first.get("display") or first.get("code")
    if shown:
        inner.append({"url": "text", "valueString": shown})
    return {"url": _US_CORE + kind, "extension": inner}


@composite("race", "Extension")
def race(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PID-10 as US Core's race; the guide leaves the realm's extension to the implementer."""
    return _us_core(components, run, "race")


@composite("ethnicity", "Extension")
def ethnicity(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PID-22 as US Core's ethnicity."""
    return _us_core(components, run, "ethnicity")


@segment("contact-more")
def contact_more(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """The further names (NK1-2) and addresses (NK1-4) of a contact, which has one of each in R4."""
    for at, name, kind, read in ((2, "name", "HumanName", _NAME), (4, "address", "Address", _ADDRESS)):
        for components in seg.field(at)[1:]:
            value = run.maps[read](components, run, str(at))
            if value:
                extension = {"url": f"urn:sluice:contact-{name}", f"value{kind}": value}
                target.setdefault("extension", []).append(extension)


@segment("contact-reached")
def contact_reached(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """Say that the name is unknown of a contact of whom neither name nor address is said: FHIR wants one (pat-1)."""
    if target and not target.keys() & {"name", "telecom", "address", "organization"}:
        target["name"] = _unknown()


def _unknown() -> dict[str, Any]:
    return {
        "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
    }


_NO_PERSON = frozenset({"EMR", "E", "F", "I", "S"})
"""Relationships (NK1-3) that make no RelatedPerson, whose contact person these would be."""
_NAME, _ADDRESS, _TELECOM = "XPN[HumanName]", "XAD[Address]", "XTN[ContactPoint]"


@segment("organization-contact")
def organization_contact(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """NK1-30 to 32: whom to ask at the organization in NK1-13; further ones are contacts of their own."""
    pointer = target.get("organization")
    if pointer is None:
        for at in (30, 31, 32):
            if seg.value(3).strip() in _NO_PERSON and valued(seg, at):
                run.find("component-not-carried", str(at))
        return
    names, numbers, addresses = (
        [value for c in seg.field(at) if (value := run.maps[read](c, run, str(at)))]
        for at, read in ((30, _NAME), (31, _TELECOM), (32, _ADDRESS))
    )
    contacts: list[dict[str, Any]] = [{} for _ in range(max(len(names), len(addresses), bool(numbers)))]
    for element, values in (("name", names), ("address", addresses)):
        for contact, value in zip(contacts, values, strict=False):
            contact[element] = value
    if numbers:
        contacts[0]["telecom"] = numbers
    if contacts:
        run.nodes["Organization", pointer["reference"].split("/")[1]].mention("NK1-30", "contact", contacts)


@composite("message-type", "string")
def message_type(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    return "^".join(text_of(components, comp) for comp in (1, 2, 3)).strip("^") or None


@composite("profile-tag", "Coding")
def profile_tag(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """MSH-21 as a tag: the profile's identifier in its namespace."""
    code = text_of(components, 1)
    if not code:
        return None
    return {"system": run.local_system(text_of(components, 2) or "message-profile"), "code": " ".join(code.split())}


@segment("endpoints")
def endpoints(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """R4 wants an address of source and destinations; without one it is said to be unknown, and so is the event."""
    for place in [target.setdefault("source", {}), *target.get("destination", [])]:
        if "endpoint" not in place:
            place["_endpoint"] = _unknown()
    if "eventCoding" not in target:
        target["eventCoding"] = {"system": "http://terminology.hl7.org/CodeSystem/v2-0003", "code": "unknown"}


@composite("sub-id", "Extension")
def sub_id(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """OBX-4 (ST, or OG since 2.8.2): the identifier as it came, and its group, sequence and identifier."""
    inner: list[dict[str, Any]] = []
    original = text_of(components, 1)
    if original:
        inner.append({"url": "original-sub-identifier", "valueString": original})
    for comp, name in ((2, "group"), (3, "sequence")):
        amount = number(text_of(components, comp)) if text_of(components, comp) else None
        if amount is not None:
            inner.append({"url": name, "valueDecimal": amount})
        elif text_of(components, comp):
            run.find("not-a-number", f"{at}.{comp}")
    if text_of(components, 4):
        inner.append({"url": "identifier", "valueString": text_of(components, 4)})
    return (
        {"url": "http://hl7.org/fhir/StructureDefinition/observation-v2-subid", "extension": inner} if inner else None
    )


def _lines(seg: Segment, at: int = 3) -> str:
    """Return NTE-3 (VAR-6): its repetitions are lines."""
    return "\n".join(line for c in seg.field(at) if (line := whole(c).strip()) and line != CLEAR)


@segment("note-text")
def note_text(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """NTE-3 as an Annotation's text; without a text there is no Annotation, whoever wrote it."""
    words = _lines(seg)
    if words:
        target["text"] = words
    else:
        if target:
            run.find("note-without-text", "3")
        target.clear()


@segment("variance-text")
def variance_text(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """VAR-6 as an Annotation's text."""
    words = _lines(seg, 6)
    if words:
        target["text"] = words
    else:
        target.clear()


@segment("annotation-text")
def annotation_text(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """NTE-3 as the text of an extension with an Annotation."""
    words = _lines(seg)
    if words:
        target.setdefault("valueAnnotation", {})["text"] = words
    else:
        target.clear()


@composite("concept-text", "CodeableConcept")
def concept_text(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    text = whole(components).strip()
    return {"text": text} if text else None


@segment("provenance-required")
def provenance_required(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """Provenance.recorded and agent are required: MSH-7 and the sending facility stand in for them."""
    header = run.message.first("MSH")
    if header is None:
        return
    if "recorded" not in target:
        target["recorded"] = times.instant(header.value(7).strip(), run.timezone) or "1900-01-01T00:00:00Z"
    if not target.get("agent"):
        field = header.field(22) or header.field(4) or header.field(3)
        who = (
            run.maps["XON[Organization]" if header.field(22) else "HD[Organization]"](field[0], run, "4")
            if field
            else None
        )
        target["agent"] = [{"who": who or {"display": "unknown"}}]


def _message(components: Components, *comps: int) -> str:
    return "^".join(part for comp in comps if (part := text_of(components, comp)))


@composite("event-text", "string")
def event_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    return f"event - {_message(components, 1, 2)}"


@text("acknowledgement", "code")
def acknowledgement(value: str, run: Run, at: str, table: Any = None) -> str | None:
    """HL7 table 0008 as FHIR's response code."""
    known = {
        "AA": "ok",
        "CA": "ok",
        "AE": "transient-error",
        "CE": "transient-error",
        "AR": "fatal-error",
        "CR": "fatal-error",
    }
    return known.get(value.strip()) or run.find("unmapped-code", at)


@text("fhir-id", "id")
def fhir_id(value: str, run: Run, at: str, table: Any = None) -> str | None:
    """A control id within the letters that a FHIR id may have."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", value.strip())[:64] or None


@composite("identity-unknown", "CodeableConcept")
def identity_unknown(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PID-31 as its own code."""
    code = text_of(components, 1)
    if code and code not in {"Y", "N"}:
        run.unmapped("YesNoIndicator", _YES_NO, code, at)
    return {"coding": [{"system": _YES_NO, "code": code}]} if code else None


_YES_NO = "http://terminology.hl7.org/CodeSystem/v2-0136"


@segment("bed-status")
def bed_status(seg: Segment, run: Run, target: Any) -> None:
    """PV1-40 as the operational status of the room or bed in PV1-3."""
    _bed(seg, run, 3, 40)


@action("bed")
def bed(seg: Segment, run: Run) -> None:
    """NPU (A20): the status of a bed, whoever lies in it."""
    _bed(seg, run, 1, 2)


def _bed(seg: Segment, run: Run, place_at: int, status_at: int) -> None:
    places, codes = seg.field(place_at), seg.field(status_at)
    if not places or not (text_of(places[0], 2) or text_of(places[0], 3)):
        run.find("bed-status-without-bed", str(status_at))
        return
    pointer = run.maps["PL[Location]"](places[0], run, str(place_at))
    coding = run.maps["CWE[Coding]"](codes[0], run, str(status_at), run.tables["BedStatus"]) if codes else None
    if pointer and coding:
        node = run.nodes["Location", pointer["reference"].split("/")[1]]
        node.mention(f"{seg.name}-{status_at}", "operationalStatus", coding)


@text("days", "Quantity")
def days(value: str, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """A length of stay in days."""
    found = number(value)
    if found is None or found < 0:
        return run.find("not-a-number", at)
    return {"value": found, "unit": "days", "system": "http://unitsofmeasure.org", "code": "d"}


@composite("annotation", "Annotation")
def annotation(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    text = whole(components).strip()
    return {"text": text} if text else None


@text("protected", "Coding")
def protected(value: str, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PV2-22: the visit is protected (Y) or not (N)."""
    code = value.strip()
    known = {"Y": ("R", "restricted"), "N": ("N", "normal")}.get(code)
    if known is None:
        run.unmapped("YesNoIndicator", _YES_NO, code, at)
        return {"system": _YES_NO, "code": code}
    return {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": known[0], "display": known[1]}


@segment("sender-country")
def sender_country(seg: Segment, run: Run, target: dict[str, Any]) -> None:
    """MSH-17 as the country of the sending facility."""
    code = seg.value(17).strip()
    sender = target.get("sender")
    if code and code != CLEAR and sender:
        run.nodes["Organization", sender["reference"].split("/")[1]].mention("MSH-17", "address", [{"country": code}])
