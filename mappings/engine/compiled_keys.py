"""The keys of `keys.yaml` as generated functions: those of segments, and those of the data types that name things.

A key is a function `(run, here)` for a segment's, `(c, run, at)` for a data type's, written out part by part. It
returns (is the authority universal, the parts encoded), or None where a part is missing. The first part that has an
authority decides whether it is universal; what the feed shares counts as universal. What a field's text names is
remembered: ten OBX ask the same of their OBR.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mappings.engine.codegen import Unit, Writer
from mappings.engine.conditions import Reference
from mappings.engine.errors import Mistake
from mappings.engine.helpers import field_of
from mappings.engine.ids import encode
from mappings.engine.keys import Key, choose_patient, text_of, typed
from mappings.engine.kinds import Kind
from mappings.engine.protocols import CLEAR, Components, Repetitions, Segment
from mappings.engine.run import Run

LONGEST = 100
"""Characters of the longest field whose key is remembered."""

_REF = re.compile(r"\(?([A-Z][A-Z0-9]{1,2}(?:[-.]\d+)?(?:\.\d+)*)\)?\??$")
_MAKER = re.compile(r"([A-Z][A-Z0-9]{2}): ")
"""A line that begins with `DG1:` names what a DG1 makes, and nothing else: without that a problem (PRB) would be named
by the diagnosis that stands before it."""
_PART = re.compile(r"(?:([A-Za-z]+)\()?([A-Za-z0-9][\w.\-\[\]]*)\)?(\?)?")

Said = tuple[bool | None, str]
"""What a part says: is its authority universal, None where it has none; its texts encoded."""


def datatype_keys(units: dict[str, Unit], kinds: dict[str, Kind], problems: list[str]) -> dict[str, Any]:
    """Return for each data type map that makes a resource the function of its key."""
    result = {}
    for unit in units.values():
        if unit.resource:
            lines = [line for line in kinds[unit.type].keys if _roots(line) == {unit.root}]
            if not lines:
                problems.append(unit.head.problem(f"keys.yaml has no key of {unit.type} from {unit.root}"))
            result[unit.name] = _first([_function(line, "c, run, at", _of_components) for line in lines])
    return result


def _roots(line: str) -> set[str]:
    roots = set()
    for word in line.split():
        found = _REF.search(word)
        if found and not word.startswith("id("):
            roots.add(Reference(found.group(1)).root)
    return roots


def _of_segments(line: str) -> bool:
    words = _MAKER.sub("", line).split()
    return all("-" in word for word in words if not word.startswith("id("))


def _first(keys: list[Any]) -> Any:
    if len(keys) == 1:
        return keys[0]

    def first(components: Any, run: Run, at: str) -> Any:
        for key in keys:
            found = key(components, run, at)
            if found is not None:
                return found
        return None

    return first


def segment_keys(kinds: dict[str, Kind], problems: list[str]) -> tuple[dict[str, list[Key]], dict[str, Key]]:
    """Return by resource type the functions of its keys, and of what tells two things with the same key apart."""
    keys: dict[str, list[Key]] = {}
    repeats: dict[str, Key] = {}
    for name, kind in kinds.items():
        try:
            keys[name] = [_function(line, "run, here", _of_field) for line in kind.keys if _of_segments(line)]
            if kind.repeat and kind.repeat != "count":
                repeats[name] = _function(kind.repeat, "run, here", _of_field)
        except Mistake as mistake:
            problems.append(f"keys.yaml: {name}: {mistake}")
    return keys, repeats


def _function(line: str, parameters: str, read: Any) -> Any:
    """Write the function of one line of `keys.yaml`; raises `Mistake`."""
    writer = Writer()
    shared, texts = [], []
    maker = _MAKER.match(line)
    if maker:
        writer.add(f"if here is not None and here.name != {maker.group(1)!r}: return None")
    for number, word in enumerate(_MAKER.sub("", line).split()):
        found = _PART.fullmatch(word)
        if found is None:
            raise Mistake(f"{word!r} is not a part of a key")
        kind, what, optional = found.groups()
        part = f"p{number}"
        if kind == "id":
            writer.add(f"node = run.scope.find({what!r})")
            writer.add(f"{part} = (None, encode(node.id)) if node is not None else None")
        elif kind == "content":
            writer.add(f"{part} = (None, encode(*run.content({what!r})))")
        else:
            if kind not in {None, "patient"}:
                typed(kind, [])
            read(writer, part, kind or "", Reference(what))
            shared += [part] if kind else []
        missing = (None, encode("", "") if kind not in {None, "id"} else encode(""))
        writer.add(f"if not {part}: " + (f"{part} = {missing!r}" if optional else "return None"))
        texts.append(f"{part}[1]")
    for place, part in enumerate(shared):
        writer.add(f"shared = {part}[0]" if not place else f"if shared is None: shared = {part}[0]")
    writer.add(f"return {'bool(shared)' if shared else 'False'}, {' + '.join(texts)}")
    space: dict[str, Any] = {"encode": encode, "said_by": said_by, "in_field": in_field}
    exec("\n".join([f"def key({parameters}):", *writer.lines]), space)  # noqa: S102 - generated from our own grammar
    return space["key"]


def _of_field(writer: Writer, part: str, kind: str, ref: Reference) -> None:
    """Write what a segment's field says: of the segment at hand, or of the nearest one of that name."""
    root, number = ref.root, ref.number
    if number is None:
        raise Mistake(f"{ref.text} is a whole segment: write {ref.text}-n")
    name = kind or f"text of {ref.comp or 'all'}.{ref.sub or 1}"
    if not any(f" s_{root} = " in line for line in writer.lines):
        writer.add(f"s_{root} = here")
        writer.add(f"if here is None or here.name != {root!r}: s_{root} = run.scope.segment({root!r})")
    writer.add(f"t = s_{root}.texts[{number}] if s_{root} is not None and len(s_{root}.texts) > {number} else ''")
    writer.add(f"{part} = run.recall.words[{name!r}].get(t) if t else ()")
    arguments = f"{number}, {kind!r}, {name!r}, {ref.comp}, {ref.sub}"
    writer.add(f"if {part} is None: {part} = in_field(run, s_{root}, {arguments})")


def _of_components(writer: Writer, part: str, kind: str, ref: Reference) -> None:
    """Write what a data type's components say: all of them, or one of them alone."""
    at = ref.number
    whole = "[c]" if at is None else f"[[c[{at - 1}]]] if len(c) >= {at} and c[{at - 1}] else ()"
    writer.add(f"{part} = said_by(run, {kind!r}, {whole}, {ref.comp}, {ref.sub})")


def in_field(  # noqa: PLR0917 - called by generated code
    run: Run, seg: Segment, number: int, kind: str, name: str, comp: int | None, sub: int | None
) -> Said | tuple[()]:
    """Return what a field says, and remember it; `()` where it says nothing."""
    field = field_of(seg, number)
    found = (_text(field, comp, sub) if not kind else said_by(run, kind, field, comp, sub)) if field else None
    if len(seg.texts[number]) <= LONGEST:
        run.recall.words[name][seg.texts[number]] = found or ()
    return found or ()


def _text(field: Repetitions, comp: int | None, sub: int | None) -> Said | None:
    """Return the text of a field, or of a component of it."""
    if not field:
        return None
    whole = comp is None
    value = "^".join("&".join(subs) for subs in field[0]) if whole else text_of(field[0], comp or 1, sub or 1)
    return (None, encode(value)) if value and value != CLEAR else None


def said_by(run: Run, kind: str, repetitions: Sequence[Components], comp: int | None, sub: int | None) -> Said | None:
    """Return what the first of some repetitions says, of a patient the preferred one."""
    if not repetitions:
        return None
    if not kind:
        value = text_of(repetitions[0], comp or 1, sub or 1)
        return (None, encode(value)) if value else None
    found = choose_patient(run, repetitions) if kind == "patient" else typed(kind, repetitions[0])
    if found is None:
        return None
    known, values = found
    return known or (len(values) > 1 and values[1] in run.shared), encode(*values)
