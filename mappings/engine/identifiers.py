"""Identifiers and who assigned them: CX, EI, XCN, XON, HD and CNN (HL7 v2 chapter 2A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.keys import text_of
from mappings.engine.protocols import CLEAR, Components
from mappings.engine.registry import composite, finish
from mappings.engine.systems import TERMINOLOGY, universal

if TYPE_CHECKING:
    from mappings.engine.run import Run

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
    """CX.4, else CX.6, CX.9, CX.10: a universal authority is the system, a local one the assigner.

    A number that is `""` is one that the thing no longer has.
    """
    if "value" not in value and components and components[0] and components[0][0].strip() == CLEAR:
        value.clear()
    elif value:
        identify(value, components, run, at, 4, 6, 9, 10)


@finish("assigner-xcn")
def assigner_xcn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """XCN.9, else XCN.14, 22, 23."""
    if "value" in value:
        identify(value, components, run, at, 9, 14, 22, 23)
    else:
        of_nothing(components, run, at, 9, 11, 12, 13, 14, 22, 23)


def of_nothing(components: Components, run: Run, at: str, *places: int) -> None:
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
        of_nothing(components, run, at, 4, 5, 6, 7, 8)
        value.clear()


@finish("assigner-ei")
def assigner_ei(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """EI.2 to EI.4: one HD written as three components; a universal id without an entity is the identifier itself."""
    if "value" not in value:
        uid, kind = text_of(components, 3), text_of(components, 4)
        uri = universal(uid, kind) if uid else None
        if uri:
            value.update({"system": "urn:ietf:rfc:3986", "value": uri})
        elif uid:
            value["value"] = uid
            assigned(value, (text_of(components, 2), "", ""))
        of_nothing(components, run, at, *((4,) if uid and not uri else () if uid else (2, 3, 4)))
        return
    assigned(value, (text_of(components, 2), text_of(components, 3), text_of(components, 4)))


def assigned(value: dict[str, Any], parts: tuple[str, str, str]) -> None:
    """Set an Identifier's system and assigner from an HD's three parts."""
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
    return {"coding": [{"system": f"{TERMINOLOGY}v2-0301", "code": " ".join(kind.split())}]}


@composite("hd-uri", "uri")
def hd_uri(components: Components, run: Run, at: str, table: Any = None) -> str | None:
    """An HD as an endpoint: its universal id as a URI, else a URI of its name within the partner's namespace."""
    space, uid, kind = hd_parts_of(components)
    uri = universal(uid, kind) if uid else None
    return uri or (run.local_system(space or uid) if space or uid else None)


@composite("visit-number", "Identifier")
def visit_number(components: Components, run: Run, at: str, table: Any = None) -> dict[str, Any] | None:
    """PV1-19 as the guide has it, a visit number; the type that the sender gives it stands behind."""
    value: dict[str, Any] | None = run.maps["CX[Identifier]"](components, run, at)
    if not value:
        return None
    sent = value.get("type", {}).get("coding", [])
    codings = [_VISIT, *(coding for coding in sent if coding.get("code") != "VN")]
    return {**value, "type": {"coding": codings, "text": "visit number"}}


_VISIT = {"system": f"{TERMINOLOGY}v2-0203", "code": "VN", "display": "Visit number"}


@finish("assigner-cnn")
def assigner_cnn(components: Components, run: Run, at: str, table: Any, value: dict[str, Any]) -> None:
    """CNN.9 to CNN.11: one HD written as three components."""
    if "value" in value:
        assigned(value, (text_of(components, 9), text_of(components, 10), text_of(components, 11)))
    else:
        of_nothing(components, run, at, 9, 10, 11)
