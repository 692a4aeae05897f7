"""Headers and bodies: what a request says about itself, and how an answer is written (FHIR R4, RESTful API)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from infra.dev.fhir.auth import EVERYTHING, Rights
from infra.dev.fhir.definitions import RESOURCE_TYPES
from infra.dev.fhir.outcome import Refusal, all_ok
from infra.dev.fhir.store import Key, Version
from mappings.engine.json import dumps, loads
from tasks.model import Resource

FHIR_JSON = "application/fhir+json"
JSON_TYPES = (FHIR_JSON, "application/json", "application/json+fhir")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class Asking:
    """What of a request matters beside its place and body; `base` is the server's own URL without a last slash."""

    base: str
    returned: str | None = None
    strict: bool = False
    respond_async: bool = False
    rights: Rights = EVERYTHING


@dataclass(frozen=True, slots=True)
class Answer:
    """What an interaction comes to.

    - `version` is the version that it is about; `body` is a resource of the answer's own (a Bundle).
    - `written` says that the client sent the version, and may not want it back.
    """

    status: int
    version: Version | None = None
    body: Any = None
    written: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Type and id of the version that it is about."""
        return self.version.key if self.version else ("", "")


def asking(request: Request, base: str, rights: Rights) -> Asking:
    """Return what `request` prefers (RFC 7240); raise `Refusal` 406 where it accepts no JSON."""
    _require_acceptable(request)
    said = ",".join(request.headers.getlist("prefer"))
    prefer = {p.strip().lower(): v.strip().strip('"') for p, _, v in (s.partition("=") for s in re.split("[,;]", said))}
    return Asking(
        base=base,
        returned=prefer.get("return"),
        strict=prefer.get("handling") == "strict",
        respond_async="respond-async" in prefer,
        rights=rights,
    )


def _require_acceptable(request: Request) -> None:
    wanted = request.query_params.get("_format")
    accepted = [wanted] if wanted is not None else request.headers.get("accept", "*/*").split(",")
    names = {item.partition(";")[0].strip().lower().replace(" ", "+") for item in accepted}
    if not names & {*JSON_TYPES, "json", "text/json", "*/*", "application/*"}:
        raise Refusal(406, f"this server writes {FHIR_JSON}")


def etag(version: int) -> str:
    """Return the weak ETag of a version (R4 RESTful API 3.1.0.1.3)."""
    return f'W/"{version}"'


def version_of(tag: str | None) -> int | None:
    """Return the version that an If-Match or ifMatch names, None where there is none; -1 matches nothing."""
    if tag is None or tag.strip() == "*":
        return None
    match = re.fullmatch(r'\s*(?:W/)?"?(\d{1,9})"?\s*', tag)
    return int(match[1]) if match else -1


def require_type(kind: str) -> str:
    """Return `kind`; raise `Refusal` 404 where it is no R4 resource type."""
    if kind not in RESOURCE_TYPES:
        raise Refusal(404, "this is no resource type of FHIR R4", code="not-supported")
    return kind


def require_id(id_: Any) -> str:
    """Return `id_`; raise `Refusal` 400 where it is no FHIR id (1 to 64 of A-Z a-z 0-9 - .)."""
    if not isinstance(id_, str) or not _ID.fullmatch(id_):
        raise Refusal(400, "an id is 1 to 64 letters, digits, '-' and '.'", code="value", expression="id")
    return id_


def resource_in(data: bytes, content_type: str | None) -> Resource:
    """Return the resource in a request's body; raise `Refusal` 415 or 400 where there is none."""
    if content_type is not None and content_type.partition(";")[0].strip().lower() not in JSON_TYPES:
        raise Refusal(415, f"this server reads {FHIR_JSON}")
    try:
        resource = loads(data)
    except ValueError:
        raise Refusal(400, "the body is not a JSON text", code="structure") from None
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise Refusal(400, "the body is not a FHIR resource: it has no resourceType", code="structure")
    if not isinstance(resource.get("meta", {}), dict):
        raise Refusal(422, "meta is not an object", code="structure", expression="meta")
    return resource


def location(version: Version, base: str) -> str:
    """Return the URL of one version of a resource."""
    return f"{base}/{version.type}/{version.id}/_history/{version.version}"


def http_date(moment: datetime) -> str:
    """Return `moment` as an HTTP date (RFC 9110)."""
    return format_datetime(moment, usegmt=True)


def respond(answer: Answer, ask: Asking) -> Response:
    """Return `answer` as HTTP, with the headers of the version that it is about."""
    headers = dict(answer.headers)
    version = answer.version
    if version is not None and version.version:
        headers |= {"ETag": etag(version.version), "Last-Modified": http_date(version.updated)}
        if answer.written and not version.deleted:
            headers["Location"] = location(version, ask.base)
    body = b"" if answer.status in (204, 304) else _body(answer, ask)
    return Response(body, answer.status, headers, media_type=f"{FHIR_JSON}; charset=utf-8" if body else None)


def _body(answer: Answer, ask: Asking) -> bytes:
    if answer.body is not None:
        return dumps(answer.body)
    content = (answer.version.content or "").encode() if answer.version else b""
    if not answer.written or ask.returned in (None, "representation"):
        return content
    return dumps(all_ok("written")) if ask.returned == "OperationOutcome" else b""
