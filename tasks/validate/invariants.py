"""Runs FHIR's own invariants (those whose breach is an error) on a resource that is right in its structure.

The expressions stand in `data/<version>.json`. Four are written here instead: what FHIRPath has no words for (txt-1,
txt-2: safe XHTML), dom-3, whose expression walks the resource once for everything that is contained, and ref-1, which
R4 worded so that nothing contained could refer to what contains it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.model import Finding
from tasks.validate.explain import locate
from tasks.validate.fhirpath import Compiler
from tasks.validate.narrative import has_text, is_safe
from tasks.validate.structure import Shape, Structure
from tasks.validate.surely import Schema, surely

Decide = Callable[[Any, Any, Any], bool | None]
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    """An invariant, and when it need not be run: one of `needed` is absent as a whole, or one of `enough` is there."""

    key: str
    holds: Decide
    needed: tuple[frozenset[str], ...] = ()
    enough: frozenset[str] = frozenset()

    def is_broken(self, node: Any, resource: Any, root: Any) -> bool:
        for names in self.needed:
            if names.isdisjoint(node):
                return False
        return self.enough.isdisjoint(node) and self.holds(node, resource, root) is False


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to look at in an object of a type: its own rules, and by property the type of what stands there.

    - `inside` has the properties that are objects, those that hold a primitive's extensions too.
    - `values` has the rules of single elements (`Narrative.div`).
    """

    rules: tuple[_Rule, ...]
    inside: dict[str, str]
    values: dict[str, tuple[_Rule, ...]]


class Invariants:
    """The invariants of one FHIR version, each compiled when its type is first looked at."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure
        self._compiler = Compiler(structure.choices())
        self._plans: dict[str, _Plan] = {}

    def check(self, resource: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[Finding]:
        """Yield what a resource breaks, not those inside it; `root` is what contains it, or itself."""
        kind = resource["resourceType"]
        broken: list[tuple[str, Path]] = []
        self._look(resource, kind, (), (resource, root), broken)
        for key, path in broken:
            place = locate(self._structure, kind, path, at)
            yield Finding(CODES.get(key) or f"fhir-invariant-{key.lower()}", place, "error")

    def _look(
        self, node: dict[str, Any], kind: str, path: Path, around: tuple[Any, Any], broken: list[tuple[str, Path]]
    ) -> None:
        plan = self._plans.get(kind) or self._plan(kind)
        broken.extend((rule.key, path) for rule in plan.rules if rule.is_broken(node, *around))
        for name, value in node.items():
            inner = plan.inside.get(name)
            if inner is None and name not in plan.values:
                continue
            many = type(value) is list
            for i, item in enumerate(value if many else (value,)):
                here: Path = (*path, name, i) if many else (*path, name)
                if name in plan.values:
                    rules = plan.values[name]
                    broken.extend((rule.key, here) for rule in rules if rule.holds(item, *around) is False)
                if inner is not None and type(item) is dict:
                    self._look(item, inner, here, around, broken)

    def _plan(self, kind: str) -> _Plan:
        shape = self._structure.shape(kind)
        inside = {p.name: p.type for p in shape.properties.values() if not p.primitive and p.type != "Resource"}
        inside.update((f"_{p.name}", "Element") for p in shape.properties.values() if p.primitive)
        stated = {p.name: self._structure.element_invariants(kind, p) for p in shape.properties.values()}
        values = {name: tuple(self._compile(one)) for name, one in stated.items() if one}
        rules = tuple(self._compile(self._structure.invariants(kind), kind, shape))
        if kind == "Reference":
            rules = (*rules, _SAME_TYPE)
        plan = self._plans[kind] = _Plan(rules, inside, values)
        return plan

    def _compile(self, stated: dict[str, str], kind: str = "", shape: Shape | None = None) -> Iterator[_Rule]:
        for key, text in stated.items():
            holds = WRITTEN.get(key) or self._compiler.compile(text)
            schema = surely(text, kind, shape) if shape else False
            yield _Rule(key, holds, *_when_not(schema))


def _when_not(schema: Schema) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """Read from the schema of what is beyond doubt which properties decide alone: absent, or there."""
    if isinstance(schema, bool):
        return (), frozenset()
    ways: Any = schema.get("anyOf", [schema])
    absent = [way["properties"] for way in ways if way.keys() == {"properties"} and not any(way["properties"].values())]
    there = [way["required"] for way in ways if way.keys() == {"required"}]
    return tuple(frozenset(names) for names in absent), frozenset(name for names in there for name in names)


def _is_used(resource: dict[str, Any], _resource: Any, _root: Any) -> bool:
    """Return dom-3: something refers to each contained resource, or it refers to what contains it."""
    contained = resource.get("contained", ())
    if not contained:
        return True
    said = set(_fragments(resource))
    return all(f"#{one.get('id')}" in said or "#" in _fragments(one) for one in contained)


def _resolves(reference: Any, resource: Any, root: Any) -> bool:
    """Return ref-1 as R5 words it: a fragment names what is contained beside it, or `#` what contains it."""
    text = reference.get("reference", "")
    if not text.startswith("#"):
        return True
    return any(one.get("id") == text[1:] for one in root.get("contained", ())) or (text == "#" and root is not resource)


def _says_its_type(reference: Any, _resource: Any, _root: Any) -> bool:
    """Return whether a Reference's `type` is that of the resource its `reference` names (R4 section 2.3.0.2)."""
    found = _TYPED.search(reference.get("reference", ""))
    said = reference.get("type", "").rpartition("/")[2]
    return found is None or not said or found[1] == said


def _fragments(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        if node.startswith("#"):
            yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _fragments(value)
    elif isinstance(node, list):
        for value in node:
            yield from _fragments(value)


WRITTEN: dict[str, Decide] = {
    "dom-3": _is_used,
    "ref-1": _resolves,
    "txt-1": lambda div, _resource, _root: is_safe(div),
    "txt-2": lambda div, _resource, _root: has_text(div),
}

CODES = {"reference-type": "fhir-reference-target"}
"""The findings of rules that FHIR states in words only."""

_TYPED = re.compile(r"^(?!urn:|#)(?:\S*/)?([A-Z][A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/\S*)?|\?\S*)$")
_SAME_TYPE = _Rule("reference-type", _says_its_type, (frozenset({"type"}), frozenset({"reference"})))
