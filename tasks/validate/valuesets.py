"""Expands FHIR's value sets to lists of codes, as far as the definitions themselves list them.

Used when the data files are extracted, never while a record is validated.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]
Codes = dict[str, set[str]]


class Terminology:
    """The value sets and code systems among `definitions`."""

    def __init__(self, definitions: Iterable[Json]) -> None:
        self._sets: dict[str, Json] = {}
        self._systems: dict[str, Json] = {}
        for definition in definitions:
            if definition["resourceType"] == "ValueSet":
                self._sets.setdefault(definition["url"], definition)
            elif definition["resourceType"] == "CodeSystem":
                self._systems.setdefault(definition["url"], definition)

    def codes(self, url: str) -> dict[str, list[str]] | None:
        """Return the codes by system; None where the definitions do not list them (UCUM, BCP 13, BCP 47)."""
        found = self._expand(url)
        return None if found is None else {system: sorted(codes) for system, codes in sorted(found.items())}

    def _expand(self, url: str) -> Codes | None:
        value_set = self._sets.get(url.partition("|")[0])
        if value_set is None or "compose" not in value_set:
            return None
        result: Codes = {}
        for include in value_set["compose"]["include"]:
            part = self._include(include)
            if part is None:
                return None
            for system, codes in part.items():
                result.setdefault(system, set()).update(codes)
        for exclude in value_set["compose"].get("exclude", []):
            for system, codes in (self._include(exclude) or {}).items():
                result.get(system, set()).difference_update(codes)
        return result

    def _include(self, include: Json) -> Codes | None:
        parts: list[Codes | None] = [self._expand(url) for url in include.get("valueSet", [])]
        if "system" in include:
            codes = self._system(include)
            parts.append(None if codes is None else {include["system"]: codes})
        known = [part for part in parts if part is not None]
        if len(known) < len(parts) or not known:
            return None
        first, *others = known
        return {s: codes.intersection(*(other.get(s, set()) for other in others)) for s, codes in first.items()}

    def _system(self, include: Json) -> set[str] | None:
        if "concept" in include:
            return {concept["code"] for concept in include["concept"]}
        system = self._systems.get(include["system"])
        if system is None or system.get("content") != "complete":
            return None
        codes = _tree(system.get("concept", []), ())
        for rule in include.get("filter", []):
            if rule["op"] not in {"is-a", "descendent-of"}:
                return None
            codes = {
                c: up for c, up in codes.items() if rule["value"] in up or (rule["op"], rule["value"]) == ("is-a", c)
            }
        return set(codes) - _abstract(system.get("concept", []))


def _tree(concepts: list[Json], above: tuple[str, ...]) -> dict[str, set[str]]:
    """Return the ancestors of every code: by nesting, and by the property `subsumedBy` (v3's second parents)."""
    result: dict[str, set[str]] = {}
    for concept in concepts:
        parents = {p["valueCode"] for p in concept.get("property", []) if p["code"] == "subsumedBy"}
        result[concept["code"]] = {*above, *parents}
        result.update(_tree(concept.get("concept", []), (*above, concept["code"])))
    return result


def _abstract(concepts: list[Json]) -> set[str]:
    """Return the codes that only group others and may not be used themselves (`notSelectable`)."""
    result: set[str] = set()
    for concept in concepts:
        if any(p["code"] == "notSelectable" and p.get("valueBoolean") for p in concept.get("property", [])):
            result.add(concept["code"])
        result |= _abstract(concept.get("concept", []))
    return result
