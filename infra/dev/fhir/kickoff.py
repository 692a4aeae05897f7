"""What a kick-off request asks for, read and checked (HL7 Bulk Data Access 2.0, Export, kick-off request)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request

from infra.dev.fhir.criteria import Pairs
from infra.dev.fhir.definitions import RESOURCE_TYPES
from infra.dev.fhir.export import Wanted, everybody
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import FHIR_JSON, Asking, require_id, resource_in
from infra.dev.fhir.reading import read
from infra.dev.fhir.store import Db, instant
from infra.dev.fhir.terms import at, local
from infra.dev.fhir.when import moment
from mappings.engine.json import loads

_FORMATS = {"application/fhir+ndjson", "application/fhir ndjson", "application/ndjson", "ndjson"}


def require_kickoff(request: Request, ask: Asking) -> None:
    """Raise `Refusal` where the headers are not those of a kick-off."""
    if not ask.respond_async:
        raise Refusal(400, "an export needs the header Prefer: respond-async", code="required")
    if FHIR_JSON not in request.headers.get("accept", ""):
        raise Refusal(406, f"an export needs the header Accept: {FHIR_JSON}")


def parameters(request: Request, data: bytes) -> Pairs:
    """Return what is asked for, from the query of a GET or the Parameters of a POST."""
    if request.method == "GET":
        return parse_qsl(request.url.query, keep_blank_values=True)
    resource = resource_in(data, request.headers.get("content-type"))
    if resource["resourceType"] != "Parameters":
        raise Refusal(400, "what is posted to start an export is a Parameters resource", expression="resourceType")
    return [pair for item in at(resource, "parameter") for pair in _pairs(item)]


def _pairs(item: Any) -> Pairs:
    if not isinstance(item, dict):
        raise Refusal(400, "a parameter is not an object", expression="Parameters.parameter")
    values = [value for name, value in item.items() if name.startswith("value")]
    return [
        (str(item.get("name")), str(value.get("reference") if isinstance(value, dict) else value)) for value in values
    ]


def wanted(db: Db, level: tuple[str, ...], pairs: Pairs, ask: Asking, *, lenient: bool) -> Wanted:
    """Return the export of `level` (nothing, `Patient`, or `Group` and its id) that `pairs` ask for.

    Raises `Refusal` 404 for a group that is not there and 400 for what cannot be read or, unless handling is
    lenient, is not supported.
    """
    found: dict[str, Any] = {"types": [], "patients": _patients(db, level, ask)}
    named: list[str] = []
    for name, value in pairs:
        match name:
            case "_since" | "_until":
                found[name[1:]] = instant(moment(value))
            case "_type":
                found["types"] += [part.strip() for part in value.split(",")]
            case "patient" if level:
                named.append(local(value, ask.base))
            case "_outputFormat" if value in _FORMATS:
                pass
            case "_format":
                pass
            case _ if not lenient:
                raise Refusal(400, "an export parameter is not supported, nor was Prefer: handling=lenient asked for")
    if not set(found["types"]) <= RESOURCE_TYPES:
        raise Refusal(400, "_type names what is no resource type of FHIR R4", code="value")
    if named:
        everyone = found["patients"] == everybody()
        found["patients"] = named if everyone else [patient for patient in named if patient in found["patients"]]
    path = "/".join((*level, "$export"))
    return Wanted(url=f"{ask.base}/{path}", **found)


def _patients(db: Db, level: tuple[str, ...], ask: Asking) -> list[str] | None:
    if len(level) < 2:
        return everybody() if level else None
    group = loads(read(db, ("Group", require_id(level[1]))).content or "{}")
    members = [member for member in at(group, "member") if isinstance(member, dict) and not member.get("inactive")]
    references = [str(entity.get("reference")) for member in members for entity in at(member, "entity")]
    return [patient for patient in (local(r, ask.base) for r in references) if patient.startswith("Patient/")]
