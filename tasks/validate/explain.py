"""Tells a schema's errors as findings: FHIR's words for what is wrong, a FHIRPath for where, never a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from jsonschema_rs import ValidationError

from tasks.model import Finding
from tasks.validate.structure import Structure

MOST = 100
"""No more findings than this for one resource: a broken export repeats itself."""

_CODES = {
    "required": "fhir-required",
    "type": "fhir-type",
    "pattern": "fhir-format",
    "minLength": "fhir-format",
    "maxLength": "fhir-format",
    "minimum": "fhir-format",
    "maximum": "fhir-format",
    "enum": "fhir-binding",
    "const": "fhir-type",
    "falseSchema": "fhir-choice",
    "additionalProperties": "fhir-unknown-element",
    "minItems": "fhir-cardinality",
    "maxItems": "fhir-cardinality",
    "contains": "fhir-binding",
    "not": "fhir-empty",
}
_OF_TYPE = re.compile(r"\.ofType\(\w+\)$")
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9]{0,63}")


def explain(
    structure: Structure, resource_type: str, schema: dict[str, Any], errors: Iterable[ValidationError], at: str
) -> tuple[Finding, ...]:
    """Return the findings for the errors of one resource that stands at the FHIRPath `at`; each said once."""
    found: dict[Finding, None] = {}
    for error in islice(errors, MOST):
        rule = _rule(schema, error.schema_path)
        place = locate(structure, resource_type, error.instance_path, at)
        code = _code(error, rule)
        if code == "fhir-choice":
            place = _OF_TYPE.sub("", place)
        for name in _names(error, rule):
            found[Finding(code, f"{place}.{name}" if name else place, "error")] = None
    return tuple(found)


def locate(structure: Structure, resource_type: str, path: Sequence[str | int], at: str) -> str:
    """Return the FHIRPath of a place in JSON: `valueQuantity.code` is `value.ofType(Quantity).code`."""
    kind = resource_type
    for step in path:
        if isinstance(step, int):
            at += f"[{step}]"
            continue
        name = step.removeprefix("_")
        prop = structure.shape(kind).properties.get(name)
        if prop is None:
            return f"{at}.{name}" if _NAME.fullmatch(name) else at
        at += f".{prop.element}.ofType({prop.type})" if prop.choice else f".{prop.element}"
        kind = "Element" if prop.primitive else prop.type
    return at


def _rule(schema: dict[str, Any], path: Sequence[str | int]) -> dict[str, Any]:
    """Return the subschema that holds the keyword an error is about."""
    node: Any = schema
    for step in path[:-1]:
        node = node[step]
    return node if isinstance(node, dict) else {}


def _code(error: ValidationError, rule: dict[str, Any]) -> str:
    if error.instance in ("", [], {}) and error.kind.name not in {"required", "anyOf", "falseSchema"}:
        return "fhir-empty"
    if error.kind.name == "type" and (isinstance(error.instance, list) or rule.get("type") == "array"):
        return "fhir-cardinality"
    return str(rule.get("title") or _CODES.get(error.kind.name, "fhir-invalid"))


def _names(error: ValidationError, rule: dict[str, Any]) -> Iterator[str]:
    """Yield what stands below the error's own place: the missing or the unknown element."""
    kind: Any = error.kind
    if kind.name == "required":
        yield str(kind.property)
    elif rule.get("title") == "fhir-choice":
        # The rule sees unknown elements as well; those are told where the type itself forbids them.
        if kind.name == "falseSchema":
            yield ""
        elif any(name.lstrip("_").startswith(rule["$comment"]) for name in kind.unexpected):
            yield rule["$comment"]
    elif kind.name == "additionalProperties":
        for name in kind.unexpected:
            yield name if _NAME.fullmatch(name) else ""
    else:
        yield rule.get("$comment", "")
