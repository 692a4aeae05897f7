"""What FHIR says of its elements: their types, and whether they repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

TEMPORAL = frozenset({"date", "dateTime", "instant", "time"})
NUMERIC = frozenset({"decimal", "integer", "integer64", "positiveInt", "unsignedInt"})
TEXTUAL = frozenset({"string", "code", "id", "markdown", "uri", "url", "canonical", "oid", "uuid", "base64Binary"})
PRIMITIVE = TEMPORAL | NUMERIC | TEXTUAL | {"boolean", "xhtml"}
_PARENTS = {
    **dict.fromkeys(("code", "id", "markdown"), "string"),
    **dict.fromkeys(("url", "canonical", "uuid", "oid"), "uri"),
    **dict.fromkeys(("positiveInt", "unsignedInt"), "integer"),
}


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its possible types, and whether it repeats."""

    types: tuple[str, ...]
    many: bool


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, str]]:
    table: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("elements.json").read_bytes())
    return table


@lru_cache(maxsize=4096)
def element(type_name: str | None, name: str) -> Element | None:
    """Return the element `name` of a type, by its name in FHIRPath or in JSON; None where FHIR knows none."""
    known = _table().get(type_name or "", {})
    if name in known:
        text = known[name]
        return Element(tuple(text.replace("*", "").split("|")), "*" in text)
    for stem, text in known.items():
        if "|" in text and name.startswith(stem):
            types = [kind for kind in text.split("|") if choice_key(stem, kind) == name]
            if types:
                return Element((types[0],), many=False)
    return None


def known_type(type_name: str | None) -> bool:
    """Say whether the elements of a type are known."""
    return type_name in _table() and type_name not in {"Resource", "DomainResource", "Element", "BackboneElement"}


def is_resource(type_name: str) -> bool:
    """Say whether a type is a resource."""
    return "implicitRules" in _table().get(type_name, {})


def meant(type_name: str) -> str | None:
    """Return the resource type that a name is a mistyping of; None where it is one, or may be another version's."""
    if is_resource(type_name):
        return None
    near = get_close_matches(type_name, filter(is_resource, _table()), n=1, cutoff=0.8)
    return near[0] if near else None


def element_names(type_name: str) -> Iterator[str]:
    """Yield the names of a type's elements."""
    yield from _table().get(type_name, {})


def choice_key(stem: str, type_name: str) -> str:
    """Return the JSON name of a choice's element: value, dateTime → valueDateTime."""
    return f"{stem}{type_name[0].upper()}{type_name[1:]}"


def conforms(type_name: str, wanted: str) -> bool:
    """Say whether a primitive type is `wanted` or one of its specialisations."""
    return type_name == wanted or _PARENTS.get(type_name) == wanted
