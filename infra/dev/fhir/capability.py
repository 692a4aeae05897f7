"""The CapabilityStatement (FHIR R4, RESTful API, capabilities)."""

from __future__ import annotations

from typing import Any

from infra.dev.fhir.definitions import FHIR_VERSION, RESOURCE_TYPES, parameters_of

DEVELOPMENT_ONLY = (
    "Sluice's FHIR server for development and tests only. It is not for production and not for real patients' data."
)
_INTERACTIONS = ("read", "vread", "update", "delete", "history-instance", "history-type", "create", "search-type")
_KINDS = {"_id": "token", "_lastUpdated": "date", "identifier": "token", "code": "token"}
_EXPORT = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"


def statement(base: str) -> dict[str, Any]:
    """Return the CapabilityStatement of the server at `base`."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "experimental": True,
        "date": "2026-01-01",
        "publisher": "Sluice",
        "kind": "instance",
        "description": DEVELOPMENT_ONLY,
        "software": {"name": "Sluice development FHIR server (for development only)", "version": "1"},
        "implementation": {"description": DEVELOPMENT_ONLY, "url": base},
        "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
        "fhirVersion": FHIR_VERSION,
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "documentation": "An update that changes nothing answers 200 and makes no new version.",
                "resource": [_resource(kind) for kind in sorted(RESOURCE_TYPES)],
                "interaction": [{"code": code} for code in ("transaction", "batch", "history-system")],
                "operation": [{"name": "export", "definition": f"{_EXPORT}export"}],
            }
        ],
    }


def _resource(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": kind,
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "searchParam": [{"name": name, "type": _KINDS.get(name, "reference")} for name in parameters_of(kind)],
    }
    if kind in ("Patient", "Group"):
        found["operation"] = [{"name": "export", "definition": f"{_EXPORT}{kind.lower()}-export"}]
    return found
