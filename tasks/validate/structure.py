"""FHIR's structure as data: types, their elements with cardinality, targets and required bindings.

Read from `data/<version>.json`, which `extract.py` takes from FHIR's own definitions.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tasks.validate.primitives import PRIMITIVES

DATA = Path(__file__).parent / "data"

Codes = dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Property:
    """One property of a JSON object.

    - `element` is the element's name without its type (`value` of `valueQuantity`); `choice` says that it has one.
    - `codes` are those of a required binding by system, None where there is none or FHIR does not list them.
    - `targets` are the types a reference may point at, empty for any.
    """

    name: str
    element: str
    type: str
    many: bool = False
    choice: bool = False
    targets: tuple[str, ...] = ()
    codes: Codes | None = None

    @property
    def primitive(self) -> bool:
        """Say whether the value is a JSON string, number or boolean."""
        return self.type in PRIMITIVES


@dataclass(frozen=True, slots=True)
class Shape:
    """A type: its properties by JSON name, and the elements of which one must be there, each as its possible names."""

    properties: dict[str, Property]
    required: dict[str, tuple[str, ...]]
    choices: dict[str, tuple[str, ...]]
    limits: dict[str, tuple[int, int | None]]


class Structure:
    """All types of one FHIR version."""

    def __init__(self, fhir_version: str) -> None:
        data = msgspec.json.decode((DATA / f"{fhir_version}.json").read_bytes())
        self._types: dict[str, dict[str, Any]] = data["types"]
        self._codes: dict[str, Codes] = data["codes"]
        self._invariants: dict[str, dict[str, str]] = data["invariants"]
        self._shapes: dict[str, Shape] = {}
        self.resources = frozenset(
            name for name, kind in self._types.items() if kind["kind"] == "resource" and not kind.get("abstract")
        )

    def shape(self, type_name: str) -> Shape:
        """Return what an object of this type may hold; raises `KeyError` for a type that FHIR does not have."""
        if type_name not in self._shapes:
            self._shapes[type_name] = self._build(type_name)
        return self._shapes[type_name]

    def invariants(self, place: str) -> dict[str, str]:
        """Return the expressions by key that hold for a type, its bases' too."""
        base = self._types.get(place, {}).get("base")
        return {**(self.invariants(base) if base else {}), **self._invariants.get(place, {})}

    def element_invariants(self, type_name: str, prop: Property) -> dict[str, str]:
        """Return the expressions by key that an element adds to its type's (`Narrative.div`)."""
        place = f"{type_name}.{prop.element}{'[x]' if prop.choice else ''}"
        return {} if place in self._types else self._invariants.get(place, {})

    def stated(self) -> dict[str, dict[str, str]]:
        """Return all expressions by key, by the type or element that they are about."""
        return self._invariants

    def choices(self) -> dict[str, frozenset[str]]:
        """Return the JSON names of every element whose type stands in its name, over all types."""
        found: dict[str, set[str]] = {}
        for kind in self._types.values():
            for name, element in kind["elements"].items():
                if name.endswith("[x]"):
                    plain = name.removesuffix("[x]")
                    found.setdefault(plain, set()).update(_choice_name(plain, one) for one in element["types"])
        return {name: frozenset(names) for name, names in found.items()}

    def _build(self, type_name: str) -> Shape:
        shape = Shape({}, {}, {}, {})
        for name, element in self._elements(type_name).items():
            properties = [self._property(name, kind, element) for kind in element["types"]]
            names = tuple(p.name for p in properties)
            shape.properties.update((p.name, p) for p in properties)
            plain = name.removesuffix("[x]")
            if element.get("min"):
                shape.required[plain] = names + tuple(f"_{p.name}" for p in properties if p.primitive)
            if len(names) > 1:
                shape.choices[plain] = names
            if properties[0].many and (element.get("min", 0) > 1 or element["max"] != "*"):
                top = None if element["max"] == "*" else int(element["max"])
                shape.limits[name] = (element.get("min", 0), top)
        return shape

    def _elements(self, type_name: str) -> dict[str, Any]:
        kind = self._types[type_name]
        base = self._elements(kind["base"]) if kind["base"] in self._types else {}
        return {**base, **kind["elements"]}

    def _property(self, name: str, kind: str, element: dict[str, Any]) -> Property:
        plain = name.removesuffix("[x]")
        choice = plain != name
        return Property(
            name=_choice_name(plain, kind) if choice else name,
            element=plain,
            type=kind,
            many=element.get("max", "1") not in {"0", "1"},
            choice=choice,
            targets=tuple(element.get("targets", ())) if kind in {"Reference", "CodeableReference"} else (),
            codes=self._codes.get(element.get("binding", ""))
            if kind in {"code", "CodeableConcept", "Coding"}
            else None,
        )


def _choice_name(element: str, kind: str) -> str:
    return element + kind[0].upper() + kind[1:]


@functools.cache
def structure(fhir_version: str) -> Structure:
    """Return the structure of `4.0.1` or `5.0.0`, read once per process."""
    return Structure(fhir_version)
