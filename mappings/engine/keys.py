"""Natural keys: which fields name a thing, read from `keys.yaml`.

An alternative is a line of parts; the first alternative whose parts are all valued names the thing.

    CX(PV1-19) EI(ORC-2) XCN(XCN) XON(XON) HD(HD) PL(PL)   an identifier with its assigning authority
    EIP(SPM-2)                                             the placer's identifier, else the filler's
    CWE(OBX-3)                                             a code with its system, or its text
    PV1-44  XCN.2  OBX-4?                                  a text; with ? it may be absent
    id(Patient)  id(Encounter)?                            the id of what is in scope
    patient(PID-3)                                         the repetition that the feed prefers
    content(AL1)                                           the whole segment, with the finding `no-natural-key`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mappings.engine.errors import Mistake, nearest
from mappings.engine.protocols import CLEAR, Components
from mappings.engine.systems import code_system, universal

if TYPE_CHECKING:
    from mappings.engine.run import Run

Key = Callable[["Run", Any], "tuple[bool, str] | None"]
"""(is the authority universal, the parts encoded), or None where something is missing."""

PATIENT_ORDER = ("MR", "PI", "PT", "PE", "PN", "NI", "HC", "JHN", "MC", "MA", "SS", "AN")
"""Types of patient identifiers by preference where the feed declares none: what the institution itself assigned
first, then enterprise-wide, national and insurance numbers; among equals the smallest authority and value."""


def text_of(components: Components | None, comp: int = 1, sub: int = 1) -> str:
    """Return one (sub)component's text, empty where it is absent or `""`."""
    if not components or len(components) < comp:
        return ""
    subs = components[comp - 1]
    if len(subs) < sub:
        return ""
    text = subs[sub - 1].strip()
    return "" if text == CLEAR else text


def authority(components: Components, at: int, *others: int) -> tuple[str, bool]:
    """Return (assigning authority, is it universal) from the HD at `at`, else from the first valued of `others`."""
    for comp in (at, *others):
        space, value, kind = (text_of(components, comp, sub) for sub in (1, 2, 3))
        uri = (universal(value, kind) if value else None) or (universal(space, "") if space else None)
        if uri:
            return uri, True
        if space or value:
            return space or value, False
    return "", False


_TYPED: dict[str, tuple[int, tuple[int, ...]]] = {
    "CX": (4, (6, 9, 10)),
    "XCN": (9, (14,)),
    "XON": (6, (8,)),
}


def typed(kind: str, components: Components) -> tuple[bool, list[str]] | None:  # noqa: PLR0911 - one a kind
    """Return (universal, [value, authority]) of an identifier of the data type `kind`."""
    if kind in _TYPED:
        at, others = _TYPED[kind]
        value = text_of(components, 1) if kind != "XON" else text_of(components, 10) or text_of(components, 3)
        if not value:
            return None
        name, is_universal = authority(components, at, *others)
        return is_universal, [value, name]
    if kind == "EI":
        return _entity(components)
    if kind == "EIP":
        # The placer's number, which the order has and the result repeats, else the filler's.
        pairs = (_entity([[sub] for sub in subs]) for subs in components[:2])
        return next((found for found in pairs if found), None)
    if kind == "HD":
        space, value, scheme = (text_of(components, comp) for comp in (1, 2, 3))
        uri = universal(value, scheme) if value else None
        return (True, [uri]) if uri else (False, [space or value]) if space or value else None
    if kind == "CWE":
        code = text_of(components, 1)
        if code:
            system = text_of(components, 3)
            return False, [code, (code_system(system) or system) if system else ""]
        text = text_of(components, 2) or text_of(components, 9)
        return (False, ["", text]) if text else None
    if kind == "PL":
        parts = [
            "&".join(sub for sub in components[i] if sub) if len(components) > i else "" for i in (3, 6, 7, 0, 1, 2)
        ]
        return (False, parts) if any(parts) else None
    raise Mistake(
        f"no kind of key {kind}{nearest(kind, [*_TYPED, 'EI', 'EIP', 'HD', 'CWE', 'PL', 'id', 'patient', 'content'])}"
    )


def _entity(components: Components) -> tuple[bool, list[str]] | None:
    value = text_of(components, 1)
    space, uid, kind = (text_of(components, comp) for comp in (2, 3, 4))
    uri = universal(uid, kind) if uid else None
    if not value:
        # Some number their documents in the third component alone.
        return (True, [uri, ""]) if uri else (False, [uid, space]) if uid else None
    return (True, [value, uri]) if uri else (False, [value, space or uid])


def choose_patient(run: Run, repetitions: Sequence[Components]) -> tuple[bool, list[str]] | None:
    """Return the key of the preferred identifier; the order of the repetitions plays no part."""
    ranked = []
    for components in repetitions:
        found = typed("CX", components)
        if found is None:
            continue
        kind = text_of(components, 5)
        names = {found[1][1], *(text_of(components, 4, sub) for sub in (1, 2))}
        ranked.append((_rank(run.profile.patient, kind, names), found[1][1], found[1][0], found))
    if not ranked:
        return None
    return min(ranked, key=lambda item: item[:3])[3]


def _rank(preference: Sequence[str], kind: str, names: set[str]) -> tuple[int, int]:
    for place, wanted in enumerate(preference):
        wanted_kind, _, wanted_name = wanted.partition("@")
        if wanted_kind in {"", kind} and (not wanted_name or wanted_name in names):
            return 0, place
    return 1, PATIENT_ORDER.index(kind) if kind in PATIENT_ORDER else 2 * len(PATIENT_ORDER) - (kind == "")
