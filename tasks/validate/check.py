"""Checks FHIR resources: one verdict from a compiled schema, and an explanation only where it is bad.

Structure, cardinality, primitive formats, one-of-many choices, required bindings and the types that references may
point at are those of FHIR's own definitions, for R4 (4.0.1) and R5 (5.0.0), and so are the invariants whose breach is
an error. What an invariant says of a resource that stands elsewhere is taken as kept; profiles and what a binding that
is not required recommends are not looked at, nor are the codes of required bindings that FHIR does not list
(UCUM units, BCP 13 media types, BCP 47 languages, ISO countries and currencies, time zones, CSS colours, two LOINC
answer lists). How great a number may be is seen where it is read (`tasks.parse.fhir_json`,
`mappings.engine.primitives`). An integer written as 5.0 passes, and a reference to any type passes with a type that
FHIR lacks.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal

import jsonschema_rs

from tasks.model import Finding
from tasks.validate.explain import MOST, explain
from tasks.validate.invariants import Invariants
from tasks.validate.names import values_alone
from tasks.validate.schema import compile_schema
from tasks.validate.structure import Structure, structure

FhirVersion = Literal["4.0.1", "5.0.0"]


class _Compiled:
    """One resource type's schema in the engine; the resources inside a resource are not its business."""

    def __init__(self, structure: Structure, kind: str, holders: Iterable[str], invariants: Invariants) -> None:
        self._structure = structure
        self._kind = kind
        self._invariants = invariants
        certain = compile_schema(structure, kind, beyond_doubt=True)
        self._is_valid = _engine(certain).is_valid
        self.is_valid_by_values = _engine(values_alone(certain)).is_valid
        self.named: set[tuple[str, ...]] = set()
        """Names that valid resources had, in their order; none of them may hold a resource."""
        self._holders = frozenset(holders)
        """The elements in which resources may stand inside this one."""

    @functools.cached_property
    def _exact(self) -> tuple[dict[str, Any], jsonschema_rs.Draft202012Validator]:
        schema = compile_schema(self._structure, self._kind)
        return schema, _engine(schema)

    def findings(self, resource: dict[str, Any], root: dict[str, Any], at: str) -> tuple[Finding, ...]:
        try:
            if self._is_valid(resource):
                self._note(tuple(resource))
                return ()
            schema, engine = self._exact
            if not engine.is_valid(resource):
                return explain(self._structure, self._kind, schema, engine.iter_errors(resource), at)
            return tuple(islice(self._invariants.check(resource, root, at), MOST))
        except (ValueError, TypeError):
            # The engine met a value that JSON does not have (NaN, bytes, a date object); it does not say where.
            return (Finding("fhir-type", at, "error"),)

    def _note(self, names: tuple[str, ...]) -> None:
        if self._holders.isdisjoint(names):
            if len(self.named) >= _NAMED:
                self.named.clear()
            self.named.add(names)


_NAMED = 5_000
"""Sets of names that are remembered of a type."""


def _engine(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, pattern_options=jsonschema_rs.RegexOptions())


class Validator:
    """Checks resources of one FHIR version; a type's schema is compiled when its first resource comes."""

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._invariants = Invariants(structure)
        self._compiled: dict[str, _Compiled] = {}
        self._ways: dict[str, tuple[tuple[str, str], ...]] = {}

    def check(self, resource: dict[str, Any]) -> tuple[Finding, ...]:
        """Return what is wrong with a resource and with those inside it; empty when it is valid."""
        try:
            compiled = self._compiled[resource["resourceType"]]
            if tuple(resource) in compiled.named and compiled.is_valid_by_values(resource):
                return ()
        except (KeyError, TypeError, ValueError):
            # Nothing that can be said so quickly.
            pass
        return self._check(resource, resource, "")

    def _check(self, resource: Any, root: Any, at: str) -> tuple[Finding, ...]:
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(kind, str) or kind not in self.structure.resources:
            return (Finding("fhir-unknown-type", f"{at}.resourceType".lstrip("."), "error"),)
        compiled = self._compiled.get(kind)
        if compiled is None:
            ways = self._ways.get(kind) or self._find_ways(kind)
            compiled = self._compiled[kind] = _Compiled(
                self.structure, kind, (name for name, _ in ways), self._invariants
            )
        place = at or kind
        findings = compiled.findings(resource, root, place)
        for inner_place, inner in self._inside(resource, kind, place):
            contained = inner_place.startswith(f"{place}.contained[")
            findings += self._check(inner, root if contained else inner, inner_place)
        return findings

    def _inside(self, node: dict[str, Any], kind: str, at: str) -> Iterator[tuple[str, Any]]:
        """Yield the resources that stand inside a node, with their place."""
        ways = self._ways.get(kind)
        for name, inner_kind in self._find_ways(kind) if ways is None else ways:
            if (value := node.get(name)) is None:
                continue
            places = [(f"{at}.{name}", value)]
            if isinstance(value, list):
                places = [(f"{at}.{name}[{i}]", item) for i, item in enumerate(value)]
            for place, item in places:
                if inner_kind == "Resource":
                    yield place, item
                elif isinstance(item, dict):
                    yield from self._inside(item, inner_kind, place)

    def _find_ways(self, kind: str) -> tuple[tuple[str, str], ...]:
        properties = self.structure.shape(kind).properties.values()
        self._ways[kind] = tuple((p.name, p.type) for p in properties if self._leads_inside(p.type, frozenset()))
        return self._ways[kind]

    def _leads_inside(self, kind: str, seen: frozenset[str]) -> bool:
        if kind == "Resource":
            return True
        if "." not in kind or kind in seen:
            return False
        return any(self._leads_inside(p.type, seen | {kind}) for p in self.structure.shape(kind).properties.values())


@functools.cache
def validator(fhir_version: FhirVersion) -> Validator:
    """Return the validator of a FHIR version, one per process; raises `FileNotFoundError` where its data is not."""
    return Validator(structure(fhir_version))
