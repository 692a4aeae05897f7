"""Natural keys: which fields name a thing, read from `keys.yaml`.

An alternative is a line of parts; the first alternative whose parts are all valued names the thing.

    CX(PV1-19) EI(ORC-2) XCN(XCN) XON(XON) HD(HD) PL(PL)   an identifier with its assigning authority
    CWE(OBX-3)                                             a code with its system, or its text
    PV1-44  XCN.2  OBX-4?                                  a text; with ? it may be absent
    id(Patient)  id(Encounter)?                            the id of what is in scope
    patient(PID-3)                                         the repetition that the feed prefers
    content(AL1)                                           the whole segment, with the finding `no-natural-key`
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mappings.engine.conditions import Reference
from mappings.engine.errors import Mistake, nearest
from mappings.engine.ids import encode
from mappings.engine.protocols import CLEAR, Components, Repetitions
from mappings.engine.systems import code_system, universal

if TYPE_CHECKING:
    from mappings.engine.run import Run

_PART = re.compile(r"(?:([A-Za-z]+)\()?([A-Za-z0-9][\w.\-\[\]]*)\)?(\?)?")
Get = Callable[["Run", Any], Repetitions]
Key = Callable[["Run", Any], "tuple[bool, str] | None"]
"""(is the authority universal, the parts encoded), or None where something is missing."""

Said = tuple[bool | None, str]
Part = Callable[["Run", Any], Said | None]
"""One part of a key: (is its authority universal, None where it has none; its texts encoded), None where it is missing.

What the feed shares counts as universal, so what a part says holds for one profile.
"""

LONGEST_KEY = 100
"""Characters of the longest field whose key is remembered."""

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
        f"no kind of key {kind}{nearest(kind, [*_TYPED, 'EI', 'HD', 'CWE', 'PL', 'id', 'patient', 'content'])}"
    )


def _entity(components: Components) -> tuple[bool, list[str]] | None:
    value = text_of(components, 1)
    if not value:
        return None
    space, uid, kind = (text_of(components, comp) for comp in (2, 3, 4))
    uri = universal(uid, kind) if uid else None
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


def compile_key(text: str, get: Callable[[Reference], Get]) -> Key:
    """Return an alternative as a function; `get` says how a reference's repetitions are read."""
    parts = [_part(word, get) for word in text.split()]

    def key(run: Run, here: Any) -> tuple[bool, str] | None:
        result = ""
        shared: bool | None = None
        for part in parts:
            found = part(run, here)
            if found is None:
                return None
            if shared is None:
                shared = found[0]
            result += found[1]
        return bool(shared), result

    return key


def _said(run: Run, found: tuple[bool, list[str]] | None) -> Said | None:
    if found is None:
        return None
    known, values = found
    return known or (len(values) > 1 and values[1] in run.shared), encode(*values)


def _part(word: str, get: Callable[[Reference], Get]) -> Part:
    found = _PART.fullmatch(word)
    if found is None:
        raise Mistake(f"{word!r} is not a part of a key")
    kind, what, optional = found.groups()
    if kind == "id":
        return _id(what, bool(optional))
    if kind == "content":
        return lambda run, _: (None, encode(*run.content(what)))
    read = get(reference := Reference(what))
    if kind == "patient":
        return lambda run, here: _said(run, choose_patient(run, read(run, here)))
    if kind is None:
        return _plain(read, reference, bool(optional))
    typed(kind, [])
    missing = (None, encode("", "")) if optional else None
    if "-" in what and reference.number:
        return _of_text(kind, reference.root, reference.number, missing)

    def identifier(run: Run, here: Any) -> Said | None:
        repetitions = read(run, here)
        return (_said(run, typed(kind, repetitions[0])) if repetitions else None) or missing

    return identifier


def _of_text(kind: str, root: str, number: int, missing: Said | None) -> Part:
    """Return a part that remembers what a field's text names: ten OBX ask the same of their OBR."""

    def part(run: Run, here: Any) -> Said | None:
        seg = here if here is not None and here.name == root else run.scope.segment(root)
        if seg is None:
            return missing
        texts = seg.texts
        if number >= len(texts) or not (text := texts[number]):
            return missing
        known = run.recall.words[kind]
        if text in known:
            return known[text] or missing
        found = _said(run, typed(kind, seg.field(number)[0]))
        if len(text) <= LONGEST_KEY:
            known[text] = found
        return found or missing

    return part


def _id(label: str, optional: bool) -> Part:
    missing = (None, encode("")) if optional else None

    def part(run: Run, here: Any) -> Said | None:
        node = run.scope.find(label)
        return (None, encode(node.id)) if node else missing

    return part


def _plain(read: Get, ref: Reference, optional: bool) -> Part:
    segment = "-" in ref.text
    missing = (None, encode("")) if optional else None

    def part(run: Run, here: Any) -> Said | None:
        repetitions = read(run, here)
        if not repetitions:
            return missing
        components = repetitions[0]
        if segment and ref.comp is None:
            value = "^".join("&".join(subs) for subs in components)
            value = "" if value == CLEAR else value
        else:
            value = text_of(components, ref.comp or 1, ref.sub or 1)
        return (None, encode(value)) if value else missing

    return part
