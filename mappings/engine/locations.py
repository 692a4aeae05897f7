"""Places: a PL as a chain of Locations (HL7 v2 chapter 2A)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mappings.engine.identifiers import assigned, authority, hd_parts, of_nothing
from mappings.engine.keys import text_of
from mappings.engine.protocols import Components
from mappings.engine.registry import composite
from mappings.engine.systems import TERMINOLOGY

if TYPE_CHECKING:
    from mappings.engine.run import Run

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
        of_nothing(components, run, at, 6, 10, 11)
        return
    if text_of(components, 6):
        coding = {"system": f"{TERMINOLOGY}v2-0305", "code": " ".join(text_of(components, 6).split())}
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
        of_nothing(components, run, at, 11)
        return
    identifier: dict[str, Any] = {"value": value}
    own = (text_of(components, 10, 2), text_of(components, 10, 3), text_of(components, 10, 4))
    assigned(identifier, own if any(own) else hd_parts(components, 11))
    if any(own):
        of_nothing(components, run, at, 11)
    node.mention("PL.10", "identifier", [identifier])
