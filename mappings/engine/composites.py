"""What a table of rows cannot say of HL7's composite data types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine import times
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
    run.lost = (table.source, value) if value else None
    if value and value not in table.codes:
        run.unmapped(table, table.source, value, at)
    elif value:
        run.find("code-without-counterpart", at, "information")
    return None


@composite("mapped-code-or-alternate", "code")
def mapped_alternate(components: Components, run: Run, at: str, table: Table) -> str | None:
    """CWE.1 by the table, or CWE.4 where CWE.1 is not valued (the guide's CWE[code])."""
    value = text_of(components, 1) or text_of(components, 4)
    run.lost = None
    return mapped_code(value, run, at, table) if value else None


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


@finish("coding-tabled", tabled=True)
def coding_tabled(components: Components, run: Run, at: str, table: Table | None, value: dict[str, Any]) -> None:
    """Replace a Coding by the table's counterpart where there is one."""
    concept: dict[str, Any] = {"coding": [dict(value)] if value else []}
    tabled(components, run, at, table, concept)
    if concept["coding"]:
        value.clear()
        value.update(concept["coding"][0])


def assigner_of(components: Components, comp: int) -> tuple[str | None, str]:
    """Return (URI of a universal authority or None, its local name) from an HD in component `comp`."""
    space, uid, kind = (text_of(components, comp, sub) for sub in (1, 2, 3))
    uri = (universal(uid, kind) if uid else None) or (universal(space, "") if space else None)
    return uri, space or (uid if uri is None else "")


def identify(value: dict[str, Any], components: Components, *places: int) -> None:
    """Set an Identifier's system or assigner from the first valued of the HDs at `places`."""
    for comp in places:
        uri, name = assigner_of(components, comp)
        if uri and "system" not in value:
            value["system"] = uri
        if name and name != uri:
            value["assigner"] = {"identifier": {"value": name}, "display": name}
        if uri or name:
            return


@finish("assigner")
def assigner(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CX.4, else CX.6, CX.9, CX.10: a universal authority is the system, a local one the assigner."""
    if value:
        identify(value, components, 4, 6, 9, 10)


@finish("assigner-xcn")
def assigner_xcn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XCN.9, else XCN.14, 22, 23."""
    if "value" in value:
        identify(value, components, 9, 14, 22, 23)


@finish("assigner-xon")
def assigner_xon(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XON.6, else XON.8."""
    if "value" in value:
        identify(value, components, 6, 8)


@finish("assigner-ei")
def assigner_ei(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """EI.2 to EI.4: one HD written as three components."""
    if "value" not in value:
        return
    space, uid, kind = (text_of(components, comp) for comp in (2, 3, 4))
    uri = universal(uid, kind) if uid else universal(space, "") if space else None
    if uri:
        value["system"] = uri
    name = space or ("" if uri else uid)
    if name and name != uri:
        value["assigner"] = {"identifier": {"value": name}, "display": name}


@composite("hd-identifiers", "Identifier")
def hd_identifiers(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """An HD as one Identifier: the universal id, else the local name."""
    space, uid, kind = (text_of(components, comp) for comp in (1, 2, 3))
    uri = universal(uid, kind) if uid else None
    if uri:
        return {"system": "urn:ietf:rfc:3986", "value": uri}
    value = uid or space
    return {"value": value} if value else None


@composite("hd-uri", "uri")
def hd_uri(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An HD as an endpoint: its universal id as a URI, else a URI of its name within the partner's namespace."""
    space, uid, kind = (text_of(components, comp) for comp in (1, 2, 3))
    uri = universal(uid, kind) if uid else None
    return uri or (run.local_system(space or uid) if space or uid else None)


@composite("name-text", "string")
def name_text(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An XPN in one line: prefix, given names, family name, suffix; the family name first where XPN.11 is F."""
    family = text_of(components, 1)
    before = [text_of(components, comp) for comp in (5, 2, 3)]
    after = [text_of(components, comp) for comp in (4, 6)]
    order = [family, *before, *after] if text_of(components, 11) == "F" else [*before, family, *after]
    return " ".join(part for part in order if part) or None


@finish("range-of-dates")
def range_of_dates(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XPN.10, XCN.17: a DR written as subcomponents, where no dates of their own stand."""
    comp = 17 if len(components) >= 17 and components[16] else 10
    for sub, name in ((1, "start"), (2, "end")):
        text = text_of(components, comp, sub)
        found = times.date_time(text, run.timezone) if text else None
        if found and name not in value.get("period", {}):
            value.setdefault("period", {})[name] = found


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
    value["system"] = _system(value.get("system"), kind, use, value["value"])
    if kind == "CP" and value.get("use") in {None, "home"}:
        value["use"] = "mobile"


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
        space, uid, kind = (text_of(components, comp, sub) for sub in (1, 2, 3))
        name = space or uid
        chain.append(name)
        if not name:
            continue
        uri = universal(uid, kind) if uid else None
        universal_root = universal_root or (comp == 4 and uri is not None)
        node = run.mention("Location", (universal_root, [uri if comp == 4 and uri else part for part in chain]))
        _level(node, uri, name, code, display)
        if parent is not None:
            node.mention("PL.partOf", "partOf", parent.pointer())
        parent = node
    if parent is None:
        return _described(components, run)
    for comp, path in ((9, "description"),):
        if text_of(components, comp):
            parent.mention(f"PL.{comp}", path, text_of(components, comp))
    _comprehensive(components, parent)
    return parent.pointer()


def _level(node: Any, uri: str | None, name: str, code: str, display: str) -> None:
    identifier = {"system": "urn:ietf:rfc:3986", "value": uri} if uri else {"value": name}
    node.mention("PL", "identifier", [identifier])
    node.mention("PL.name", "name", name)
    node.mention("~PL", "mode", "instance")
    node.mention("PL.type", "physicalType", {"coding": [{"system": _PHYSICAL, "code": code, "display": display}]})


def _described(components: Components, run: Run) -> dict[str, str] | None:
    text = text_of(components, 9)
    if not text:
        return None
    node = run.mention("Location", (False, ["", text]))
    node.mention("PL.9", "name", text)
    node.mention("~PL", "mode", "instance")
    return node.pointer()


def _comprehensive(components: Components, node: Any) -> None:
    """PL.10 with PL.11: the identifier of the whole place."""
    value = text_of(components, 10)
    if value:
        identifier: dict[str, Any] = {"value": value}
        padded = [*components, *([[]] * 11)][:11]
        space, uid, kind = (text_of(padded, 10, sub) for sub in (2, 3, 4))
        uri = universal(uid, kind) if uid else None
        if uri:
            identifier["system"] = uri
        elif space or uid:
            identifier["assigner"] = {"identifier": {"value": space or uid}, "display": space or uid}
        else:
            identify(identifier, padded, 11)
        node.mention("PL.10", "identifier", [identifier])


@finish("assigner-cnn")
def assigner_cnn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CNN.9 to CNN.11: one HD written as three components."""
    if "value" not in value:
        return
    space, uid, kind = (text_of(components, comp) for comp in (9, 10, 11))
    uri = universal(uid, kind) if uid else None
    if uri:
        value["system"] = uri
    if space:
        value["assigner"] = {"identifier": {"value": space}, "display": space}
