"""A FHIR type's shape as JSON Schema (draft 2020-12), for an engine in Rust.

A subschema that stands for a rule of FHIR carries the finding's code as `title` and the element's name as `$comment`,
so that an error can be told in FHIR's words. Resources inside resources are left out: the validator checks each of
them with its own type's schema.
"""

from __future__ import annotations

import functools
from typing import Any

from tasks.validate.primitives import PRIMITIVES, reference
from tasks.validate.structure import Property, Shape, Structure
from tasks.validate.surely import beyond_doubt

Schema = dict[str, Any]

_ANY_RESOURCE: Schema = {"type": "object", "required": ["resourceType"]}


def compile_schema(structure: Structure, resource_type: str, beyond_doubt: bool = False) -> Schema:
    """Return the schema of a resource type with all data types that it uses under `$defs`.

    It is that of the structure; `beyond_doubt`, of what is right in its structure and surely breaks no invariant.
    """
    builder = _Builder(structure, beyond_doubt)
    root = builder.object(resource_type)
    root["properties"]["resourceType"] = {"const": resource_type}
    root["required"] = ["resourceType", *root.get("required", [])]
    builder.finish()
    return {**root, "$defs": builder.defs}


class _Builder:
    def __init__(self, structure: Structure, beyond_doubt: bool) -> None:
        self.structure = structure
        self.beyond_doubt = beyond_doubt
        self.defs: dict[str, Schema] = {}
        self._wanted: list[str] = []

    def finish(self) -> None:
        """Define every type that was referred to, and what those refer to."""
        while self._wanted:
            name = self._wanted.pop()
            self.defs[name] = self.object(name)

    def object(self, type_name: str) -> Schema:
        shape = self.structure.shape(type_name)
        properties: Schema = {}
        for name, prop in shape.properties.items():
            properties[name] = self._property(prop, shape)
            if prop.primitive:
                properties[f"_{name}"] = self._extensions() if prop.many else self._ref("Element")
        schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
        if type_name not in self.structure.resources:
            schema["minProperties"] = 1
            if type_name != "Element":
                # an id says nothing by itself (ele-1), unless it is that of a primitive beside it
                schema["not"] = {"type": "object", "required": ["id"], "maxProperties": 1}
        _require(schema, shape)
        if self.beyond_doubt:
            self._leave_no_doubt(schema, type_name, shape)
        return schema

    def _leave_no_doubt(self, schema: Schema, type_name: str, shape: Shape) -> None:
        """Refuse whatever may break an invariant of the type or of one of its elements."""
        properties = schema["properties"]
        if schema.pop("not", None):
            properties["id"] = False
        if type_name == "Extension":
            # its URL, and either a value or extensions: ext-1, without the fifty names of a value
            schema.update(minProperties=2, maxProperties=2)
            return
        if type_name == "Reference":
            # whether the two agree is told by a look at them
            schema["not"] = {"required": ["reference", "type"]}
        rule = _rule(self.structure, type_name)
        if rule is False:
            schema["not"] = {}
        elif rule is not True:
            schema.setdefault("allOf", []).append(rule)
        for name, prop in shape.properties.items():
            if self.structure.element_invariants(type_name, prop):
                properties[name] = False

    def _ref(self, type_name: str) -> Schema:
        if type_name not in self.defs:
            self.defs[type_name] = {}
            self._wanted.append(type_name)
        return {"$ref": f"#/$defs/{type_name}"}

    def _extensions(self) -> Schema:
        """Return that one of the elements beside a list of primitives is one: a null there has to say something."""
        return {**_many(self._nullable_element()), "contains": {"type": "object"}, "title": "fhir-empty"}

    def _nullable_element(self) -> Schema:
        if "Element?" not in self.defs:
            self.defs["Element?"] = {}
            self.defs["Element?"] = _or_null(self.object("Element"))
        return {"$ref": "#/$defs/Element?"}

    def _property(self, prop: Property, shape: Shape) -> Schema:
        value = self._value(prop)
        if not prop.many:
            return value
        if prop.primitive:
            value = _or_null(value)
        return _many(value, *shape.limits.get(prop.name, (1, None)))

    def _value(self, prop: Property) -> Schema:
        if prop.type == "Resource":
            return _ANY_RESOURCE
        if prop.primitive:
            return _bound_code(prop.codes) if prop.codes else PRIMITIVES[prop.type]
        if prop.type == "Reference":
            return self._reference(prop.targets)
        if prop.type == "CodeableReference" and prop.targets:
            inner = {"properties": {"reference": self._reference(prop.targets)}}
            return {"allOf": [self._ref(prop.type), inner]}
        if prop.codes:
            return {"allOf": [self._ref(prop.type), _bound_coding(prop.codes, prop.type)]}
        return self._ref(prop.type)

    def _reference(self, targets: tuple[str, ...]) -> Schema:
        name = f"Reference({'|'.join(targets)})"
        if name not in self.defs:
            self.defs[name] = {}
            schema = self.object("Reference")
            schema["properties"]["reference"] = {
                **reference(targets, not self.beyond_doubt),
                "title": "fhir-reference-target",
            }
            if targets:
                uris = [*targets, *(f"http://hl7.org/fhir/StructureDefinition/{t}" for t in targets)]
                schema["properties"]["type"] = {"enum": uris, "title": "fhir-reference-target"}
            self.defs[name] = schema
        return {"$ref": f"#/$defs/{name.replace('|', '%7C')}"}


@functools.cache
def _rule(structure: Structure, type_name: str) -> bool | Schema:
    # ref-1 is about fragments alone, which the pattern of a reference leaves out here
    return beyond_doubt(structure, type_name, but=("ref-1",))


def _require(schema: Schema, shape: Shape) -> None:
    rules: list[Schema] = []
    for element, names in shape.required.items():
        if len(names) == 1:
            schema.setdefault("required", []).append(names[0])
        else:
            rules.append({"anyOf": [{"required": [n]} for n in names], "title": "fhir-required", "$comment": element})
    for name, prop in shape.properties.items():
        if prop.many and prop.primitive:
            rules.append(_no_null(name))
    if rules:
        schema["allOf"] = rules
    dependent: Schema = {}
    for element, names in shape.choices.items():
        dependent.update(_exclusive(element, names, shape))
    if dependent:
        schema["dependentSchemas"] = dependent


def _exclusive(element: str, names: tuple[str, ...], shape: Shape) -> Schema:
    """Return that each of a choice's properties (or its extension) rules out all the others.

    Either the others are named, or what may still stand beside it, whichever is shorter: an Extension has 50 choices.
    """
    family = {name: _with_extension(name, shape) for name in names}
    chosen = {one for pair in family.values() for one in pair}
    beside = {one for name in shape.properties for one in _with_extension(name, shape)} - chosen
    result: Schema = {}
    for pair in family.values():
        rule: Schema = {"title": "fhir-choice", "$comment": element}
        if len(chosen) <= len(beside):
            rule["properties"] = dict.fromkeys(sorted(chosen.difference(pair)), False)
        else:
            rule["properties"] = dict.fromkeys(sorted(beside.union(pair)), True)
            rule["additionalProperties"] = False
        result.update(dict.fromkeys(pair, rule))
    return result


def _with_extension(name: str, shape: Shape) -> tuple[str, ...]:
    return (name, f"_{name}") if shape.properties[name].primitive else (name,)


def _no_null(name: str) -> Schema:
    """Return that a list of primitives holds a null only where the list of their extensions stands beside it."""
    plain = {"properties": {name: {"items": {"not": {"type": "null"}}}}}
    return {"anyOf": [{"required": [f"_{name}"]}, plain], "title": "fhir-empty", "$comment": name}


def _many(items: Schema, low: int = 1, high: int | None = None) -> Schema:
    schema: Schema = {"type": "array", "minItems": max(low, 1), "items": items}
    return schema if high is None else {**schema, "maxItems": high}


def _or_null(value: Schema) -> Schema:
    kinds = value["type"] if isinstance(value["type"], list) else [value["type"]]
    nullable = {**value, "type": [*kinds, "null"]}
    if "enum" in value:
        nullable["enum"] = [*value["enum"], None]
    return nullable


def _bound_code(codes: dict[str, tuple[str, ...]]) -> Schema:
    return {"type": "string", "enum": sorted({code for listed in codes.values() for code in listed})}


def _bound_coding(codes: dict[str, tuple[str, ...]], kind: str) -> Schema:
    """Return that a coding is one of `codes`; of a CodeableConcept at least one, or an extension says why not."""
    one = [
        {"properties": {"system": {"const": system}, "code": {"enum": sorted(listed)}}, "required": ["system", "code"]}
        for system, listed in codes.items()
    ]
    if kind != "CodeableConcept":
        return {"anyOf": one, "title": "fhir-binding"}
    coding = {"contains": {"anyOf": one}, "title": "fhir-binding"}
    present = [{"required": ["coding"]}, {"required": ["extension"]}]
    return {"properties": {"coding": coding}, "anyOf": present, "title": "fhir-binding"}
