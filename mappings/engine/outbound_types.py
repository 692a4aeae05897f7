"""FHIR data types as HL7 v2.5.1 data types (chapter 2.A): a value becomes components of subcomponents, unescaped."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from mappings.engine.systems import system_name

Repetition = list[list[str]]
"""Components of subcomponents."""
Find = Callable[[str], Mapping[str, Any] | None]
"""Returns the resource that a reference names, None where it is not at hand."""
Type = Callable[[Any, Find], Repetition]

_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(\.\d{1,4})?\d*)?(Z|[+-]\d\d:\d\d)?)?)?)?")
_PLACES = {"bd": 2, "ro": 1, "wa": 0, "si": 3, "bu": 6, "lvl": 7}
_USES = {"home": "H", "work": "B", "temp": "C", "old": "BA", "billing": "BI"}
_NAMES = {"official": "L", "usual": "L", "maiden": "M", "nickname": "N", "anonymous": "S", "temp": "TEMP", "old": "BAD"}
_DOCUMENTS = {
    "18743-5": "AR", "11488-4": "CN", "18748-4": "DI", "18842-5": "DS", "34111-5": "ED", "34117-2": "HP",
    "11504-8": "OP", "34788-0": "PC", "28570-0": "PN", "11506-3": "PR", "11526-1": "SP", "18761-7": "TS",
}  # fmt: skip
"""LOINC document types and what HL7 table 0270 calls them."""
_EQUIPMENT = {"phone": "PH", "fax": "FX", "pager": "BP", "sms": "CP", "email": "Internet"}


def flat(*components: str) -> Repetition:
    """Return components without subcomponents, without empty ones at the end."""
    found = [[text] for text in components]
    while found and not found[-1][0]:
        found.pop()
    return found


def text(value: Any, _find: Find) -> Repetition:
    """ST, SI, NM: the value as it is written."""
    return flat(_plain(value))


def time(value: Any, _find: Find) -> Repetition:
    """TS: date and time to the precision that is there, with its offset; raises `ValueError` for another text."""
    match = _TIME.fullmatch(str(value))
    if match is None:
        raise ValueError("no FHIR date or time")
    *parts, fraction, offset = match.groups()
    zone = "" if offset is None else "+0000" if offset == "Z" else offset.replace(":", "")
    return flat("".join(part or "" for part in parts) + (fraction or "") + zone)


def identifier(value: Any, _find: Find) -> Repetition:
    """CX: id, assigning authority (HD), identifier type code."""
    return [[_plain(value.get("value"))], [""], [""], _authority(value), [_code(value.get("type"))]]


def entity(value: Any, _find: Find) -> Repetition:
    """EI: id, namespace, universal id and its type."""
    if not isinstance(value, dict):
        return flat(_plain(value), "SLUICE")
    space, *rest = [*_authority(value), "", ""][:3]
    return flat(_plain(value.get("value")), space, *rest)


def specimen_id(value: Any, _find: Find) -> Repetition:
    """EIP: the placer's and the filler's id of a specimen, each with the subcomponents of EI."""
    found = {_code(one.get("type")): one for one in _dicts(value.get("identifier"))}
    other = next((one for kind, one in found.items() if kind not in {"PLAC", "FILL"}), None)
    sides = [found.get("PLAC") or other, found.get("FILL")]
    return [[_plain(one.get("value")), *_authority(one)] if one else [""] for one in sides]


def name(value: Any, _find: Find) -> Repetition:
    """XPN: family, given, further given names, suffix, prefix, use."""
    given = [_plain(one) for one in value.get("given", [])]
    family = _plain(value.get("family")) or ("" if given else _plain(value.get("text")))
    suffix, prefix = (" ".join(map(_plain, value.get(part, []))) for part in ("suffix", "prefix"))
    return flat(family, *given[:1] or [""], " ".join(given[1:]), suffix, prefix, "", _NAMES.get(value.get("use"), ""))


def address(value: Any, _find: Find) -> Repetition:
    """XAD: street, other designation, city, state, postal code, country, use, county."""
    lines = [_plain(one) for one in value.get("line", [])] or [_plain(value.get("text"))]
    inner = (_plain(value.get(part)) for part in ("city", "state", "postalCode", "country"))
    use = "M" if value.get("type") == "postal" else _USES.get(value.get("use"), "")
    return flat(lines[0], " ".join(lines[1:]), *inner, use, "", _plain(value.get("district")))


def telecom(value: Any, _find: Find) -> Repetition:
    """XTN: a number as text, its use and equipment; an e-mail address in the fourth component."""
    system = value.get("system")
    if system == "email":
        return flat("", "NET", "Internet", _plain(value.get("value")))
    use = "PRS" if value.get("use") == "mobile" else {"home": "PRN", "work": "WPN"}.get(value.get("use"), "")
    equipment = "CP" if value.get("use") == "mobile" else _EQUIPMENT.get(system, "")
    return flat(_plain(value.get("value")), use, equipment)


def coded(value: Any, find: Find) -> Repetition:
    """CWE: as CE, and the original text where it is another than the first coding's display."""
    found = element(value, find)
    said = _plain(value.get("text")) if isinstance(value, dict) else ""
    if said and found[1:2] != [[said]]:
        found += [[""]] * (8 - len(found)) + [[said]]
    return found


def element(value: Any, _find: Find) -> Repetition:
    """CE: up to two codings with text and coding system."""
    if not isinstance(value, dict):
        return flat("", _plain(value))
    codings = _dicts(value.get("coding")) if "coding" in value or "text" in value else [value]
    said = _plain(value.get("text"))
    first, second = ([_plain(c.get("code")), _plain(c.get("display")), _system(c)] for c in _two(codings))
    if not first[1]:
        first[1] = said
    return flat(*first, *second)


def code(value: Any, _find: Find) -> Repetition:
    """ID and IS: the code alone, that of a table of HL7 v2 before others."""
    codings = _dicts(value.get("coding")) if isinstance(value, dict) else []
    ours = [one for one in codings if "/v2-" in str(one.get("system", ""))]
    return flat(_plain((ours or codings or [{}])[0].get("code")) if codings else _plain(value))


def document_type(value: Any, _find: Find) -> Repetition:
    """IS of a document's type: its code of HL7 table 0270, else the one that its LOINC code stands for."""
    codings = _dicts(value.get("coding"))
    ours = [_plain(one.get("code")) for one in codings if str(one.get("system", "/v2-0270")).endswith("/v2-0270")]
    loinc = [_DOCUMENTS[code] for one in codings if (code := _plain(one.get("code"))) in _DOCUMENTS]
    return flat(next(iter([*ours, *loinc]), ""))


def person(value: Any, find: Find) -> Repetition:
    """XCN: a practitioner's id, name and who assigned the id."""
    found = _named(value, find, "Practitioner")
    if found is None:
        said = _plain(value.get("display")) if isinstance(value, dict) and "display" in value else ""
        return flat("", said) if said else []
    ids = [*_dicts(found.get("identifier")), {}][0]
    family, given, further, suffix, prefix = [
        *(part[0] for part in name([*_dicts(found.get("name")), {}][0], find)), *[""] * 5,
    ][:5]  # fmt: skip
    head = [[part] for part in (_plain(ids.get("value")), family, given, further, suffix, prefix, "", "")]
    return _trimmed([*head, _authority(ids)])


def place(value: Any, find: Find) -> Repetition:
    """PL: point of care, room, bed, facility, found by going up from a location."""
    out = [""] * 9
    found = _named(value, find, "Location")
    for _ in range(8):
        if found is None:
            break
        kind = _code(found.get("physicalType"))
        ids = [*_dicts(found.get("identifier")), {}][0]
        at = _PLACES.get(kind, 0 if not out[0] else 3)
        out[at] = out[at] or _plain(ids.get("value")) or _plain(found.get("name"))
        found = _named(found.get("partOf"), find, "Location")
    return flat(*out)


def unit(value: Any, _find: Find) -> Repetition:
    """CE of a quantity's unit."""
    ucum = value.get("system") == "http://unitsofmeasure.org"
    said, symbol = _plain(value.get("unit")), _plain(value.get("code"))
    return flat(symbol or said, said if symbol and said != symbol else "", "UCUM" if ucum and symbol else "")


def limits(value: Any, _find: Find) -> Repetition:
    """ST of a reference range."""
    if "text" in value:
        return flat(_plain(value["text"]))
    low, high = (_plain((value.get(side) or {}).get("value")) for side in ("low", "high"))
    return flat(f"{low}-{high}" if low and high else f">={low}" if low else f"<={high}" if high else "")


def value_type(resource: Any, _find: Find) -> Repetition:
    """OBX-2: the data type of OBX-5; nothing where there is no value."""
    for key in resource:
        if key in _VALUES:
            kind = _VALUES[key][0]
            return flat("SN" if key == "valueQuantity" and resource[key].get("comparator") else kind)
    return []


def observed(resource: Any, find: Find) -> Repetition:
    """OBX-5: the value, in the type that `value_type` names."""
    return next((_VALUES[key][1](value, find) for key, value in resource.items() if key in _VALUES), [])


def attachment_type(value: Any, _find: Find) -> Repetition:
    """OBX-2 of a document: TX for text, RP for an address, ED for anything else."""
    return flat("TX" if _document_text(value) is not None else "RP" if "url" in value else "ED")


def attachment(value: Any, _find: Find) -> Repetition:
    """OBX-5 of a document: its text, its address, or its data in Base64."""
    said = _document_text(value)
    if said is not None:
        return flat(said)
    kind, _, subtype = _plain(value.get("contentType")).partition("/")
    if "url" in value:
        return flat(_plain(value["url"]), "", kind.capitalize(), subtype)
    return flat("", kind.capitalize() or "Application", subtype or "octet-stream", "Base64", _plain(value.get("data")))


def _document_text(value: Mapping[str, Any]) -> str | None:
    if not str(value.get("contentType", "")).startswith("text/plain") or "data" not in value:
        return None
    try:
        return base64.b64decode(value["data"], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _quantity(value: Any, _find: Find) -> Repetition:
    number = _plain(value.get("value"))
    return flat(value["comparator"], number) if value.get("comparator") else flat(number)


def _ratio(value: Any, _find: Find) -> Repetition:
    above, below = (_plain((value.get(side) or {}).get("value")) for side in ("numerator", "denominator"))
    return flat("", above, ":", below)


def _range(value: Any, _find: Find) -> Repetition:
    low, high = (_plain((value.get(side) or {}).get("value")) for side in ("low", "high"))
    return flat("", low, "-", high)


_VALUES: dict[str, tuple[str, Type]] = {
    "valueQuantity": ("NM", _quantity),
    "valueString": ("ST", text),
    "valueCodeableConcept": ("CWE", coded),
    "valueInteger": ("NM", text),
    "valueBoolean": ("ID", lambda value, _find: flat("Y" if value else "N")),
    "valueDateTime": ("TS", time),
    "valueTime": ("TM", lambda value, _find: flat(str(value).replace(":", ""))),
    "valueRatio": ("SN", _ratio),
    "valueRange": ("SN", _range),
    "valuePeriod": ("DR", lambda value, find: [*time(value["start"], find), *time(value["end"], find)]),
}

TYPES: dict[str, Type] = {
    "ST": text, "NM": text, "TS": time, "CX": identifier, "EI": entity, "EIP": specimen_id, "XPN": name, "XAD": address,
    "XTN": telecom, "CE": element, "CWE": coded, "ID": code, "document-type": document_type,
    "XCN": person, "PL": place, "unit": unit, "range": limits,
    "value-type": value_type, "value": observed, "attachment-type": attachment_type, "attachment": attachment,
}  # fmt: skip


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _two(codings: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from [*codings, {}, {}][:2]


def _code(concept: Any) -> str:
    codings = _dicts(concept.get("coding")) if isinstance(concept, dict) else []
    return _plain(codings[0].get("code")) if codings else ""


def _system(coding: Mapping[str, Any]) -> str:
    system = _plain(coding.get("system"))
    return system_name(system) if system else ""


def _authority(value: Mapping[str, Any]) -> list[str]:
    """HD: the local name of who assigned an identifier, and the universal one of its system."""
    assigner = value.get("assigner") or {}
    local = _plain((assigner.get("identifier") or {}).get("value")) or _plain(assigner.get("display"))
    system = _plain(value.get("system"))
    for prefix, kind in (("urn:oid:", "ISO"), ("urn:uuid:", "UUID"), ("urn:dns:", "DNS"), ("", "URI")):
        if system and system.startswith(prefix):
            return [local, system.removeprefix(prefix), kind]
    return [local]


def _named(value: Any, find: Find, kind: str) -> Mapping[str, Any] | None:
    """Return a resource of a type, itself or by reference."""
    if not isinstance(value, dict):
        return None
    found = value if "resourceType" in value else find(str(value.get("reference", "")))
    return found if found is not None and found.get("resourceType") == kind else None


def _trimmed(components: Repetition) -> Repetition:
    while components and not any(components[-1]):
        components.pop()
    return components


__all__ = ["TYPES", "Find", "Repetition", "flat"]
