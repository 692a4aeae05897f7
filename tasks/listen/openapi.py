"""What the HTTP intake's OpenAPI page says of bodies and answers: as narrow as what is taken (OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

from tasks.listen.fhir_body import BUNDLES, ID, METHODS, REST, TYPE

FHIR_JSON = "application/fhir+json"
OUTCOME = {
    "type": "object",
    "required": ["resourceType", "issue"],
    "properties": {"resourceType": {"const": "OperationOutcome"}},
}
REFUSALS = {
    400: "Not well formed",
    401: "No token, or one that is not good",
    403: "The token's scopes do not allow it",
    404: "No such feed or type",
    405: "This feed does not take it",
    408: "The body took too long",
    409: "The Idempotency-Key was used for another request",
    413: "Too large",
    415: "Another media type is needed",
    422: "Well formed, and not acceptable",
    429: "Too many requests",
    503: "It could not be kept now; send it again",
}
_TYPE = {"type": "string", "pattern": f"^{TYPE.pattern}$"}
_HELD = {"type": "object", "required": ["resourceType"], "properties": {"resourceType": _TYPE}}
_RESOURCE = {
    **_HELD,
    "properties": {
        "resourceType": {**_TYPE, "description": "The type in the URL."},
        "id": {"type": "string", "pattern": f"^{ID.pattern}$"},
    },
}
_ADDRESS = {"type": "string", "pattern": f"^{REST.pattern}$"}
_DELETION = {
    "type": "object",
    "required": ["method", "url"],
    "properties": {"method": {"const": "DELETE"}, "url": _ADDRESS},
}
_ENTRY = {
    "type": "object",
    "properties": {
        "resource": _HELD,
        "request": {"type": "object", "properties": {"method": {"enum": list(METHODS)}}},
    },
    "anyOf": [{"required": ["resource"]}, {"required": ["request"], "properties": {"request": _DELETION}}],
}
_HEADER = {
    "type": "object",
    "required": ["resource"],
    "properties": {"resource": {**_HELD, "properties": {"resourceType": {"const": "MessageHeader"}}}},
}
_FILES = {"type": "array", "items": {"type": "object", "required": ["delivery", "verdict", "size", "sha256"]}}


def resource_body() -> dict[str, Any]:
    """Return the request body of one resource."""
    return _fhir(_RESOURCE)


def bundle_body(*, message: bool = False) -> dict[str, Any]:
    """Return the request body of a Bundle, or of a message."""
    kinds = ["message"] if message else list(BUNDLES)
    entries = {"type": "array", "minItems": 1, "items": _ENTRY, **({"prefixItems": [_HEADER]} if message else {})}
    properties = {"resourceType": {"const": "Bundle"}, "type": {"enum": kinds}, "entry": entries}
    return _fhir({"type": "object", "required": list(properties), "properties": properties})


def file_body() -> dict[str, Any]:
    """Return the request body of an upload."""
    part = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}, "required": ["file"]}
    return {"required": True, "content": {"multipart/form-data": {"schema": part}}}


def responses(*, files: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return every answer of an operation."""
    refused = {FHIR_JSON: {"schema": OUTCOME}}
    kept = {"application/json": {"schema": _FILES}} if files else refused
    said: dict[int | str, dict[str, Any]] = {
        code: {"description": text, "content": refused} for code, text in REFUSALS.items()
    }
    return {202: {"description": "Durably kept", "content": kept}, **said}


def _fhir(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {FHIR_JSON: {"schema": schema}, "application/json": {"schema": schema}}}
