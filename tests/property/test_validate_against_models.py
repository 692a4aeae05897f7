"""The compiled validator and fhir.resources give one verdict, on valid and on broken resources of every type.

Resources are made from fhir.resources' own models. For 4.0.1 its R4B models serve: what R4B renamed or added is left
out. Of a required binding and of a reference's target fhir.resources knows nothing; there the verdict is ours alone.
"""

from __future__ import annotations

import random
import typing
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
from fhir.resources import get_fhir_model_class as r5_model
from fhir.resources.R4B import get_fhir_model_class as r4b_model
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.validate import FhirVersion, validator
from tasks.validate.invariants import Invariants
from tasks.validate.schema import compile_schema
from tasks.validate.structure import Property, structure

MODELS: dict[str, Any] = {"4.0.1": r4b_model, "5.0.0": r5_model}
OTHERWISE = frozenset({"Evidence", "EvidenceVariable"})
"""Types that R4B made anew."""

SECRET = "ZZSECRETZZ"

GOOD: dict[str, list[Any]] = {
    "base64Binary": ["aGVsbG8=", "YQ=="],
    "boolean": [True, False],
    "canonical": ["http://example.org/x|1.0"],
    "code": ["a", "two words"],
    "date": ["2024", "2024-02", "2024-02-29"],
    "dateTime": ["2024", "2024-02-29", "2024-02-29T23:59:00+05:30", "2024-01-01T00:00:00.123Z"],
    "decimal": [1, Decimal("5.10"), Decimal("-0.001"), 2.5],
    "id": ["a-1.B"],
    "instant": ["2024-02-29T23:59:00.5Z"],
    "integer": [0, -5, 2147483647],
    "integer64": [7],
    "markdown": ["*a*"],
    "oid": ["urn:oid:1.2.3"],
    "positiveInt": [1, 2147483647],
    "string": ["text", " Ü ", "line\nline"],
    "time": ["23:59:00", "00:00:00.5"],
    "unsignedInt": [0, 9],
    "uri": ["urn:x:y", "http://example.org"],
    "url": ["http://example.org/a"],
    "uuid": ["urn:uuid:c757873d-ec9a-4326-a141-556f43239520"],
    "xhtml": ["<div xmlns='http://www.w3.org/1999/xhtml'>a</div>"],
}
BAD: dict[str, list[Any]] = {
    "boolean": ["maybe", {}],
    "code": ["a  b", " a", ""],
    "date": ["2023-02-30", "2023-13", "yesterday", "2024-02-29T10:00:00Z"],
    "dateTime": ["2023-02-30", "2024-01-01T25:00:00Z", "10:00"],
    "decimal": ["x", {}],
    "id": ["a b", "ä", ""],
    "instant": ["2024", "2024-02-30T10:00:00Z", "x"],
    "integer": ["x", 2147483648, Decimal("1.5")],
    "oid": ["1.2.3", "urn:oid:3"],
    "positiveInt": [0, -1],
    "time": ["24:00:00", "x"],
    "unsignedInt": [-1],
}
OURS: dict[str, list[Any]] = {
    "base64Binary": ["a", "a===", "aGVs!G8="],
    "boolean": ["true", 1],
    "dateTime": ["2024-01-01T10:00:00", "2024-01-01T10:00Z", "2024-1-1"],
    "decimal": ["5.1", True],
    "id": ["x" * 65],
    "instant": ["2024-01-01T10:00:00", "2024-01-01"],
    "integer": ["5", True],
    "string": ["", 5, "a\x00b"],
    "uri": ["a b", ""],
    "canonical": ["a b"],
    "uuid": ["c757873d-ec9a-4326-a141-556f43239520"],
}

Node = tuple[dict[str, Any], str]


class Maker:
    """Makes valid resources of one version from the models, noting every object with its type."""

    def __init__(self, version: FhirVersion, dice: random.Random) -> None:
        self.structure = structure(version)
        self.models = MODELS[version]
        self.dice = dice
        self.nodes: list[Node] = []

    def resource(self, kind: str) -> dict[str, Any]:
        made = self.object(self.models(kind), kind, 0)
        made["resourceType"] = kind
        return made

    def object(self, model: Any, kind: str, depth: int) -> dict[str, Any]:
        node: dict[str, Any] = {}
        shape = self.structure.shape(kind)
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        for names in _groups(shape.properties.values()):
            known = [name for name in names if name in fields]
            needed = shape.properties[names[0]].element in shape.required
            if known and (needed or self.dice.random() < (0.35, 0.2, 0.0)[min(depth, 2)]):
                self.put(node, shape.properties[self.dice.choice(known)], fields, depth)
        if depth and not node.keys() - {"id"}:
            node["extension"] = [{"url": "http://example.org", "valueCode": "x"}]
        self.nodes.append((node, kind))
        return node

    def put(self, node: dict[str, Any], prop: Property, fields: dict[str, Any], depth: int) -> None:
        model = None if prop.primitive else _model_of(fields[prop.name].annotation)
        values = [self.value(prop, model, depth) for _ in range(self.dice.choice((1, 2)) if prop.many else 1)]
        node[prop.name] = values if prop.many else values[0]
        if prop.primitive and not prop.many and f"_{prop.name}" in fields and self.dice.random() < 0.1:
            node[f"_{prop.name}"] = {"extension": [{"url": "http://example.org", "valueCode": "x"}]}

    def value(self, prop: Property, model: Any, depth: int) -> Any:
        if prop.primitive:
            codes = sorted({code for listed in (prop.codes or {}).values() for code in listed})
            return self.dice.choice(codes or GOOD[prop.type])
        if prop.type == "Resource":
            return {"resourceType": "Basic", "code": {"text": "x"}}
        if prop.type == "Reference":
            return self.reference(prop)
        if prop.type == "CodeableReference":
            return self.dice.choice(({"concept": {"text": "x"}}, {"reference": self.reference(prop)}))
        if prop.codes:
            system, codes = self.dice.choice(sorted((s, c) for s, c in prop.codes.items() if c))
            coding = {"system": system, "code": self.dice.choice(sorted(codes))}
            return {"coding": [coding]} if prop.type == "CodeableConcept" else coding
        return self.object(model, prop.type, depth + 1)

    def reference(self, prop: Property) -> dict[str, Any]:
        return {"reference": f"{self.dice.choice(prop.targets or ('Patient',))}/1"}


def _groups(properties: Any) -> Iterator[list[str]]:
    groups: dict[str, list[str]] = {}
    for prop in properties:
        groups.setdefault(prop.element, []).append(prop.name)
    yield from groups.values()


def _model_of(annotation: Any) -> Any:
    if hasattr(annotation, "get_model_klass"):
        return annotation.get_model_klass()
    return next((model for part in typing.get_args(annotation) if (model := _model_of(part))), None)


@cache
def _known_types(version: FhirVersion) -> list[str]:
    found = []
    for kind in sorted(structure(version).resources - (OTHERWISE if version == "4.0.1" else frozenset())):
        try:
            MODELS[version](kind)
        except ValueError:
            continue
        found.append(kind)
    return found


TYPES = [(version, kind) for version in ("4.0.1", "5.0.0") for kind in _known_types(version)]


@cache
def beyond_doubt(version: FhirVersion, kind: str) -> Any:
    return jsonschema_rs.Draft202012Validator(compile_schema(structure(version), kind, beyond_doubt=True))


@cache
def invariants(version: FhirVersion) -> Invariants:
    return Invariants(structure(version))


def models_accept(version: str, resource: dict[str, Any]) -> bool:
    try:
        MODELS[version](resource["resourceType"]).model_validate(resource)
    except (ValidationError, KeyError, TypeError):
        return False
    return True


def spots(nodes: list[Node], version: FhirVersion, wanted: Callable[[Property], bool]) -> list[tuple[Any, Property]]:
    """Return where a property that is `wanted` stands, in a stable order."""
    found = []
    for node, kind in nodes:
        properties = structure(version).shape(kind).properties
        found += [(node, properties[name]) for name in sorted(node) if name in properties and wanted(properties[name])]
    return found


def _set(node: dict[str, Any], prop: Property, value: Any) -> None:
    node[prop.name] = [value] if prop.many else value


def unknown_element(maker: Maker, version: FhirVersion) -> None:
    maker.dice.choice(maker.nodes)[0]["madeUp"] = SECRET


def missing_element(maker: Maker, version: FhirVersion) -> None:
    ways = [
        (node, names)
        for node, kind in maker.nodes
        for names in structure(version).shape(kind).required.values()
        if any(name in node for name in names)
    ]
    assume(ways)
    node, names = maker.dice.choice(ways)
    for name in names:
        node.pop(name, None)


def text_for_an_object(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: not prop.primitive)
    assume(ways)
    _set(*maker.dice.choice(ways), SECRET)


def an_object_for_a_primitive(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: prop.primitive)
    assume(ways)
    _set(*maker.dice.choice(ways), {"value": SECRET})


def one_for_a_list(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: prop.many)
    assume(ways)
    node, prop = maker.dice.choice(ways)
    node[prop.name] = node[prop.name][0]


def a_list_for_one(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: not prop.many)
    assume(ways)
    node, prop = maker.dice.choice(ways)
    node[prop.name] = [node[prop.name]]


def two_of_a_choice(maker: Maker, version: FhirVersion) -> None:
    ways = []
    for node, kind in maker.nodes:
        for names in structure(version).shape(kind).choices.values():
            simple = [name for name in names if name.endswith(("String", "DateTime", "Boolean", "Period", "Quantity"))]
            ways += [(node, name) for name in simple if any(n in node for n in names) and name not in node]
    assume(ways)
    node, name = maker.dice.choice(ways)
    endings = {
        "DateTime": "2024",
        "Boolean": True,
        "String": "x",
        "Period": {"start": "2024"},
        "Quantity": {"value": 1},
    }
    node[name] = next(value for end, value in endings.items() if name.endswith(end))


def bad_format(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: prop.type in BAD)
    assume(ways)
    node, prop = maker.dice.choice(ways)
    _set(node, prop, maker.dice.choice(BAD[prop.type]))


def strict_format(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: prop.type in OURS)
    assume(ways)
    node, prop = maker.dice.choice(ways)
    _set(node, prop, maker.dice.choice(OURS[prop.type]))


def bad_code(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: bool(prop.codes))
    assume(ways)
    node, prop = maker.dice.choice(ways)
    coding = {"system": "http://example.org", "code": SECRET}
    _set(node, prop, {"code": SECRET, "Coding": coding}.get(prop.type, {"coding": [coding]}))


def bad_target(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: prop.type == "Reference" and bool(prop.targets))
    assume(ways)
    node, prop = maker.dice.choice(ways)
    other = next(kind for kind in ("Linkage", "Basic", "Slot") if kind not in prop.targets)
    form = maker.dice.choice(("{}/1", "http://example.org/fhir/{}/1", "{}/1/_history/2", "{}?identifier=x"))
    _set(node, prop, {"reference": form.format(other)})


def nothing_in_it(maker: Maker, version: FhirVersion) -> None:
    ways = spots(maker.nodes, version, lambda prop: True)
    assume(ways)
    node, prop = maker.dice.choice(ways)
    node[prop.name] = maker.dice.choice(([], [{}] if prop.many else {}, [None] if prop.many else None))


BOTH_SEE = [
    unknown_element,
    missing_element,
    text_for_an_object,
    an_object_for_a_primitive,
    one_for_a_list,
    a_list_for_one,
    two_of_a_choice,
    bad_format,
]
WE_SEE = [strict_format, bad_code, bad_target, nothing_in_it]

few = settings(
    max_examples=4,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
dices = st.integers(0, 2**32).map(random.Random)


@pytest.mark.parametrize(("version", "kind"), TYPES)
@given(dice=dices)
@few
def test_what_the_models_make_is_valid_to_both(version: FhirVersion, kind: str, dice: random.Random) -> None:
    resource = Maker(version, dice).resource(kind)
    # chance keeps no invariant: two values that exclude each other, a contained resource that nobody refers to
    assert all(finding.code.startswith("fhir-invariant-") for finding in validator(version).check(resource))
    assert models_accept(version, resource)
    if beyond_doubt(version, kind).is_valid(resource):
        assert not list(invariants(version).check(resource, resource, kind))


@pytest.mark.parametrize("break_it", BOTH_SEE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
@given(dice=dices, data=st.data())
@settings(few, max_examples=60)
def test_what_is_broken_is_refused_by_both(
    break_it: Callable[[Maker, FhirVersion], None], version: FhirVersion, dice: random.Random, data: st.DataObject
) -> None:
    maker = Maker(version, dice)
    resource = maker.resource(data.draw(st.sampled_from(_known_types(version))))
    break_it(maker, version)
    findings = validator(version).check(resource)
    assert findings
    assert not models_accept(version, resource)
    assert SECRET not in str(findings)


@pytest.mark.parametrize("break_it", WE_SEE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
@given(dice=dices, data=st.data())
@settings(few, max_examples=60)
def test_what_only_the_definitions_forbid_is_refused(
    break_it: Callable[[Maker, FhirVersion], None], version: FhirVersion, dice: random.Random, data: st.DataObject
) -> None:
    maker = Maker(version, dice)
    resource = maker.resource(data.draw(st.sampled_from(_known_types(version))))
    break_it(maker, version)
    findings = validator(version).check(resource)
    assert findings
    assert SECRET not in str(findings)


def test_nearly_every_type_is_compared() -> None:
    assert len(_known_types("5.0.0")) == len(structure("5.0.0").resources)
    assert len(_known_types("4.0.1")) >= 125
