"""What a table of rows cannot say of HL7's composite data types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.protocols import Components
from mappings.engine.registry import composite, finish, text
from mappings.engine.systems import code_system, universal
from mappings.engine.tables import Table

if TYPE_CHECKING:
    from mappings.engine.run import Run

V2 = "http://terminology.hl7.org/CodeSystem/v2-"


@text("mapped-code", "code")
def mapped_code(value: str, run: Run, at: str, table: Table) -> str | None:
    """A code by its table; None, with a finding, for one that is not in it."""
    run.lost = None
    target = table.codes.get(value)
    if target is not None:
        return target.code
    value = " ".join(value.split())
    target = table.get(value)
    if target is not None:
        return target.code
    coding = {"system": table.source, "code": value} if table.source else {"code": value}
    run.lost = {"coding": [coding]} if value else None
    if value and value not in table.codes:
        run.unmapped(table, table.source, value, at)
    elif value:
        run.find("code-without-counterpart", at, "information")
    return None


@composite("mapped-code-or-alternate", "code")
def mapped_alternate(components: Components, run: Run, at: str, table: Table) -> str | None:
    """CWE.1 by the table, or CWE.4 where CWE.1 is not valued (the guide's CWE[code]).

    What has no counterpart is kept whole; of what has one, its own name and system (CWE.2, 3, 7) say nothing more.
    """
    value = text_of(components, 1) or text_of(components, 4)
    run.lost = None
    found = mapped_code(value, run, at, table) if value else None
    if found is not None:
        if len(components) > 3:
            run.rest(components, _OF_CODE if text_of(components, 1) else _OF_ALTERNATE, at)
    elif len(components) > 1:
        run.lost = run.maps["CWE[CodeableConcept]"](components, run, at)
    return found


_OF_CODE, _OF_ALTERNATE = frozenset({1, 2, 3, 7, 9}), frozenset({4, 5, 6, 8, 9})


@finish("tabled", tabled=True)
def tabled(components: Components, run: Run, at: str, table: Table | None, value: dict[str, Any]) -> None:
    """Put the table's counterpart of CWE.1 first, when CWE.1 is of the table's own system or of a local one.

    The sender's coding stays behind it where it says more; a code that is not in the table stays as it came.
    """
    if table is None or not components:
        return
    code, system = text_of(components, 1), text_of(components, 3)
    known = code_system(system) if system else None
    if not code or (known is not None and known != table.source):
        return
    target = table.get(code)
    codings = value.setdefault("coding", [])
    if not system and table.source and codings:
        codings[0]["system"] = table.source
        codings[0] = {"system": table.source, **codings[0]}
    if target is None:
        if code not in table.codes:
            run.unmapped(table, known or table.source, code, at)
        return
    coding = {
        key: part
        for key, part in zip(("system", "code", "display"), (target.system, target.code, target.display), strict=True)
        if part
    }
    if codings and codings[0].get("code") == target.code and codings[0].get("system") in {target.system, None}:
        codings[0] = {**codings[0], **coding}
    else:
        codings.insert(0, coding)
    if "text" not in value and text_of(components, 2):
        value["text"] = text_of(components, 2)


@finish("system-oids")
def system_oids(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CWE.14, 17 and 20: the coding systems' OIDs, where CWE.3, 6 and 12 do not name them."""
    if len(components) < 14:
        return
    for place, (comp, code, name) in enumerate(((14, 1, 3), (17, 4, 6), (20, 10, 12))):
        oid = text_of(components, comp)
        if not oid:
            continue
        codings = value.get("coding", [])
        earlier = sum(
            bool(text_of(components, other) or text_of(components, other + 1)) for other in (1, 4, 10)[:place]
        )
        if text_of(components, code) and not text_of(components, name) and universal(oid, "ISO"):
            codings[earlier]["system"] = universal(oid, "ISO")
        elif not universal(oid, "ISO") or code_system(text_of(components, name)) != universal(oid, "ISO"):
            run.find("component-not-carried", f"{at}.{comp}")


@finish("coding-tabled", tabled=True)
def coding_tabled(components: Components, run: Run, at: str, table: Table | None, value: dict[str, Any]) -> None:
    """Replace a Coding by the table's counterpart where there is one."""
    concept: dict[str, Any] = {"coding": [dict(value)] if value else []}
    tabled(components, run, at, table, concept)
    if concept["coding"]:
        value.clear()
        value.update(concept["coding"][0])


_FACILITIES = frozenset({6, 8, 14})
"""Places of an assigning facility (CX.6, XON.8, XCN.14); 9, 10, 22 and 23 are a jurisdiction and an agency."""
_JURISDICTIONS = frozenset({9, 22})


def authority(parts: tuple[str, str, str]) -> tuple[str | None, dict[str, Any] | None]:
    """Return (URI of a universal authority or None, what stands in `Identifier.assigner`) of an HD's three parts.

    A universal id that only the partner understands (HD.3 is L, N, …) is the assigner's identifier, of that type.
    """
    space, uid, kind = parts
    uri = (universal(uid, kind) if uid else None) or (universal(space, "") if space else None)
    if uri == space:
        return uri, None
    identifier: dict[str, Any] = {"value": space}
    if uid and uri is None:
        identifier = {"value": uid}
        if kind:
            identifier["type"] = _hd_type(kind)
    if not identifier["value"]:
        return uri, None
    return uri, {"identifier": identifier, "display": space or uid}


def hd_parts(components: Components, comp: int) -> tuple[str, str, str]:
    """Return the HD that stands in component `comp`."""
    return text_of(components, comp), text_of(components, comp, 2), text_of(components, comp, 3)


def identify(value: dict[str, Any], components: Components, run: Run, at: str, *places: int) -> None:
    """Set an Identifier's system and assigner from the first valued of `places`; the others become extensions."""
    said = False
    for comp in places:
        if len(components) < comp or not any(components[comp - 1]):
            continue
        coded = comp > 8 and comp != 14 and places[0] != comp
        if coded:
            said = _agency(value, components, run, f"{at}.{comp}", comp, said) or said
            continue
        uri, assigner = authority(hd_parts(components, comp))
        if not said and (uri or assigner):
            said = True
            if uri and "system" in value:
                run.find("component-not-carried", f"{at}.{comp}")
            elif uri:
                value["system"] = uri
            if assigner:
                value["assigner"] = assigner
        elif uri or assigner:
            identifier = {"system": "urn:ietf:rfc:3986", "value": uri} if uri else (assigner or {})["identifier"]
            shown = {"display": assigner["display"]} if assigner else {}
            reference = {"identifier": identifier, **shown}
            extension = {"url": "urn:sluice:assigning-facility", "valueReference": reference}
            value.setdefault("extension", []).append(extension)


def _agency(value: dict[str, Any], components: Components, run: Run, at: str, comp: int, said: bool) -> bool:  # noqa: PLR0917
    """CX.9 and 10 (CWE): a jurisdiction or an agency, the assigner where nobody else is."""
    concept = run.maps["CWE[CodeableConcept]"]([[sub] for sub in components[comp - 1]], run, at)
    if not concept:
        return False
    if not said:
        code, shown = text_of(components, comp), text_of(components, comp, 2)
        value["assigner"] = {"identifier": {"value": code or shown}, "display": shown or code}
    name = "jurisdiction" if comp in _JURISDICTIONS else "agency"
    extension = {"url": f"urn:sluice:assigning-{name}", "valueCodeableConcept": concept}
    value.setdefault("extension", []).append(extension)
    return True


@finish("assigner")
def assigner(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CX.4, else CX.6, CX.9, CX.10: a universal authority is the system, a local one the assigner."""
    if value:
        identify(value, components, run, at, 4, 6, 9, 10)


@finish("assigner-xcn")
def assigner_xcn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XCN.9, else XCN.14, 22, 23."""
    if "value" in value:
        identify(value, components, run, at, 9, 14, 22, 23)
    else:
        _of_nothing(components, run, at, 9, 11, 12, 13, 14, 22, 23)


def _of_nothing(components: Components, run: Run, at: str, *places: int) -> None:
    """Note what is said of an identifier that is not there."""
    for comp in places:
        if len(components) >= comp and any(components[comp - 1]):
            run.find("component-not-carried", f"{at}.{comp}")


@finish("assigner-xon")
def assigner_xon(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XON.6, else XON.8."""
    if "value" in value:
        identify(value, components, run, at, 6, 8)
    else:
        _of_nothing(components, run, at, 4, 5, 6, 7, 8)
        value.clear()


@finish("assigner-ei")
def assigner_ei(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """EI.2 to EI.4: one HD written as three components."""
    if "value" not in value:
        _of_nothing(components, run, at, 2, 3, 4)
        return
    _assigned(value, (text_of(components, 2), text_of(components, 3), text_of(components, 4)))


def _assigned(value: dict[str, Any], parts: tuple[str, str, str]) -> None:
    uri, assigner = authority(parts)
    if uri:
        value["system"] = uri
    if assigner:
        value["assigner"] = assigner


@composite("hd-identifiers", "Identifier")
def hd_identifiers(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An HD as one Identifier: the universal id, the local id with its type, else the local name."""
    space, uid, kind = hd_parts_of(components)
    uri = universal(uid, kind) if uid else None
    if uri:
        return {"system": "urn:ietf:rfc:3986", "value": uri}
    if uid and kind:
        return {"type": _hd_type(kind), "value": uid}
    value = uid or space
    return {"value": value} if value else None


def hd_parts_of(components: Components) -> tuple[str, str, str]:
    """Return the parts of an HD that stands by itself."""
    return text_of(components, 1), text_of(components, 2), text_of(components, 3)


def _hd_type(kind: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{V2}0301", "code": " ".join(kind.split())}]}


@composite("hd-uri", "uri")
def hd_uri(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An HD as an endpoint: its universal id as a URI, else a URI of its name within the partner's namespace."""
    space, uid, kind = hd_parts_of(components)
    uri = universal(uid, kind) if uid else None
    return uri or (run.local_system(space or uid) if space or uid else None)


@composite("name-text", "string")
def name_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An XPN in one line: prefix, given names, family name, suffix; the family name first where XPN.11 is F."""
    family = text_of(components, 1)
    before = [text_of(components, comp) for comp in (5, 2, 3)]
    after = [text_of(components, comp) for comp in (4, 6)]
    order = [family, *before, *after] if text_of(components, 11) == "F" else [*before, family, *after]
    run.rest(components, _IN_TEXT, at)
    for sub in range(2, len(components[0]) + 1 if components else 0):
        if text_of(components, 1, sub) and text_of(components, 1, sub) not in family:
            run.find("component-not-carried", f"{at}.1.{sub}")
    return " ".join(part for part in order if part) or None


_IN_TEXT = frozenset({1, 2, 3, 4, 5, 6, 7, 11})
"""What a name's line says; a maiden name's type (XPN.7) is said by its element."""


def _range(components: Components, run: Run, at: str, comp: int, value: dict[str, Any]) -> None:
    for sub, name in ((1, "start"), (2, "end")):
        text = text_of(components, comp, sub)
        found = run.date_time(text, f"{at}.{comp}.{sub}") if text else None
        if found and name in value.get("period", {}):
            run.find("component-not-carried", f"{at}.{comp}.{sub}")
        elif found:
            value.setdefault("period", {})[name] = found


@finish("range-of-dates")
def range_of_dates(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XPN.10: a DR written as subcomponents, where no dates of their own stand."""
    _range(components, run, at, 10, value)


@finish("range-of-dates-xcn")
def range_of_dates_xcn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XCN.17: a DR written as subcomponents, where no dates of their own stand."""
    _range(components, run, at, 17, value)


@composite("assembly-order", "Extension")
def assembly_order(components: Components, run: Run, at: str, table: Table | None = None) -> dict[str, Any] | None:
    """XPN.11 and XCN.18 as extension; a code that is not in its table is kept beside the element."""
    run.lost = None
    found = mapped_code(text_of(components), run, at, table) if table is not None and text_of(components) else None
    if found:
        return {"url": _ASSEMBLY, "valueCode": found}
    return {"url": _ASSEMBLY, "_valueCode": run.take_lost()} if table is not None and run.lost else None


_ASSEMBLY = "http://hl7.org/fhir/StructureDefinition/humanname-assembly-order"


@composite("visit-number", "Identifier")
def visit_number(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PV1-19 as the guide has it, a visit number; the type that the sender gives it stands behind."""
    value: dict[str, Any] | None = run.maps["CX[Identifier]"](components, run, at)
    if not value:
        return None
    sent = value.get("type", {}).get("coding", [])
    codings = [_VISIT, *(coding for coding in sent if coding.get("code") != "VN")]
    return {**value, "type": {"coding": codings, "text": "visit number"}}


_VISIT = {"system": f"{V2}0203", "code": "VN", "display": "Visit number"}


_NET = {"Internet", "X.400", "INTERNET", "internet"}


@finish("telecom")
def telecom(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """The value and system of an XTN, whichever of its components hold them.

    XTN.4 is an address on the net; XTN.12 the whole number; XTN.5 to 8 its parts; XTN.1 the form of before 2.3.
    """
    kind, use, address = text_of(components, 3), text_of(components, 2), text_of(components, 4)
    number = "" if kind in _NET and address else _number(components)
    if number:
        value["value"] = number
    elif address:
        value["value"] = address
    if "value" not in value:
        value.clear()
        return
    if address and number and address != number:
        run.find("component-not-carried", f"{at}.4")
    if not number and text_of(components, 12):
        run.find("component-not-carried", f"{at}.12")
    if text_of(components, 1) and not _same_number(text_of(components, 1), value["value"]):
        run.find("component-not-carried", f"{at}.1")
    value["system"] = _system(value.get("system"), kind, use, value["value"])
    if kind == "CP" and value.get("use") in {None, "home"}:
        value["use"] = "mobile"


def _same_number(one: str, other: str) -> bool:
    """Say whether two ways to write a number (or an address) are of the same: with or without its country, area."""
    if one == other:
        return True
    digits, others = (re.sub(r"\D", "", text) for text in (one, other))
    return len(digits) >= 5 and (digits in others or others in digits) and len(others) >= 5


def _number(components: Components) -> str:
    country, area, local, extension = (text_of(components, comp) for comp in (5, 6, 7, 8))
    if text_of(components, 12):
        return text_of(components, 12)
    if local:
        number = f"{f'+{country.lstrip(chr(43))} ' if country else ''}{f'{area} ' if area else ''}{local}"
        return f"{number} X{extension}" if extension else number
    return text_of(components, 1)


def _system(found: str | None, kind: str, use: str, value: str) -> str:
    if found and found != "mobile":
        return found
    if "@" in value and kind != "CP":
        return "email"
    if value.lower().startswith(("http://", "https://")):
        return "url"
    if use == "NET":
        return "email"
    return "pager" if use == "BPN" else "phone"


_LEVELS = (
    (4, "si", "Site"),
    (7, "bu", "Building"),
    (8, "lvl", "Level"),
    (1, "wa", "Ward"),
    (2, "ro", "Room"),
    (3, "bd", "Bed"),
)
_PHYSICAL = "http://terminology.hl7.org/CodeSystem/location-physical-type"


@composite("location", "Reference")
def location(components: Components, run: Run, at: str, table: Any = None) -> dict[str, str] | None:
    """A PL as Locations, one per level, each part of the next wider one; the reference is to the narrowest.

    A level's natural key is its whole chain of names, so that room 1 of two wards is two rooms.
    """
    chain: list[str] = []
    parent = None
    universal_root = False
    for comp, code, display in _LEVELS:
        space, uid, _ = parts = hd_parts(components, comp)
        name = space or uid
        chain.append(name)
        if not name:
            continue
        uri = authority(parts)[0] if uid else None
        universal_root = universal_root or (comp == 4 and uri is not None)
        node = run.mention("Location", (universal_root, [uri if comp == 4 and uri else part for part in chain]))
        _level(node, parts, code, display)
        if parent is not None:
            node.mention("PL.partOf", "partOf", parent.pointer())
        parent = node
    if len(components) > 4:
        _of_place(components, run, at, parent)
    if parent is None:
        return _described(components, run)
    return parent.pointer()


def _level(node: Any, parts: tuple[str, str, str], code: str, display: str) -> None:
    """The names of one level: its own, and the one that its universal or local id is."""
    uri, assigner = authority(parts)
    names: list[dict[str, Any]] = [{"value": parts[0]}] if parts[0] and uri != parts[0] else []
    if uri:
        names.insert(0, {"system": "urn:ietf:rfc:3986", "value": uri})
    elif assigner and assigner["identifier"] not in names:
        names.append(assigner["identifier"])
    node.mention("PL", "identifier", names)
    node.mention("PL.name", "name", parts[0] or parts[1])
    node.mention("~PL", "mode", "instance")
    node.mention("PL.type", "physicalType", {"coding": [{"system": _PHYSICAL, "code": code, "display": display}]})


_OF_PLACE = frozenset({1, 2, 3, 4, 6, 7, 8, 9, 10, 11})


def _of_place(components: Components, run: Run, at: str, node: Any) -> None:
    """PL.6 and 9 to 11: type, description and identifier of the narrowest place. PL.5 is for an empty bed."""
    run.rest(components, _OF_PLACE, at)
    if node is None:
        _of_nothing(components, run, at, 6, 10, 11)
        return
    if text_of(components, 6):
        coding = {"system": f"{V2}0305", "code": " ".join(text_of(components, 6).split())}
        node.mention("PL.6", "type", [{"coding": [coding]}])
    if text_of(components, 9):
        node.mention("PL.9", "description", text_of(components, 9))
    _comprehensive(components, run, at, node)


def _described(components: Components, run: Run) -> dict[str, str] | None:
    text = text_of(components, 9)
    if not text:
        return None
    node = run.mention("Location", (False, ["", text]))
    node.mention("PL.9", "name", text)
    node.mention("~PL", "mode", "instance")
    return node.pointer()


def _comprehensive(components: Components, run: Run, at: str, node: Any) -> None:
    """PL.10 with PL.11: the identifier of the whole place."""
    value = text_of(components, 10)
    if not value:
        _of_nothing(components, run, at, 11)
        return
    identifier: dict[str, Any] = {"value": value}
    own = (text_of(components, 10, 2), text_of(components, 10, 3), text_of(components, 10, 4))
    _assigned(identifier, own if any(own) else hd_parts(components, 11))
    if any(own):
        _of_nothing(components, run, at, 11)
    node.mention("PL.10", "identifier", [identifier])


@composite("concept-string", "string")
def concept_string(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """A CWE in one line: its text, else its display, else its code."""
    said = next((comp for comp in (9, 2, 1) if text_of(components, comp)), 1)
    run.rest(components, frozenset({said, 1, 3} if said > 1 else {1, 3}), at)
    return text_of(components, said) or None


@composite("organization-text", "string")
def organization_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An XON in one line: its name, else its identifier."""
    named = next((comp for comp in (1, 10, 3) if text_of(components, comp)), 1)
    run.rest(components, frozenset({named}), at)
    return text_of(components, named) or None


@finish("assigner-cnn")
def assigner_cnn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CNN.9 to CNN.11: one HD written as three components."""
    if "value" in value:
        _assigned(value, (text_of(components, 9), text_of(components, 10), text_of(components, 11)))
    else:
        _of_nothing(components, run, at, 9, 10, 11)
