"""What was posted to the FHIR endpoint: which actions it asks for, and the bytes that are kept.

FHIR R4, "RESTful API" (create, update, delete, batch/transaction) and "Messaging" ($process-message).
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

import msgspec

from tasks.listen.scopes import Action

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
REST = re.compile(r"([A-Z][A-Za-z]{1,63})(?:/[A-Za-z0-9\-.]{1,64})?(?:\?.*)?")
METHODS = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}
BUNDLES = ("transaction", "batch", "collection", "message", "document", "history")
_NAMES = uuid.uuid5(uuid.NAMESPACE_URL, "urn:sluice:posted")


class Bad(Exception):
    """A request is refused: its status, an OperationOutcome's code and words, and a FHIRPath where there is one."""

    def __init__(self, status: int, code: str, text: str, place: str | None = None, retry: float | None = None) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.place, self.retry = status, code, text, place, retry


@dataclass(frozen=True, slots=True)
class Posted:
    """A request that is well formed: what it does, the bytes to keep, and the id by which it is known again."""

    actions: tuple[Action, ...]
    data: bytes
    control: bytes | None = None


def resource(body: bytes, kind: str, ident: str | None, format_name: str) -> Posted:
    """Return a create (`ident` None) or an update of one resource; raises `Bad`."""
    said = _object(body)
    if said.get("resourceType") != kind:
        raise Bad(400, "invalid", "resourceType is not the type in the URL", "resourceType")
    own = said.get("id")
    if "id" in said and not (isinstance(own, str) and ID.fullmatch(own)):
        raise Bad(400, "value", "id is not a FHIR id", f"{kind}.id")
    if ident is not None and own != ident:
        raise Bad(400, "invalid", "id is not the id in the URL", f"{kind}.id")
    action = (kind, "c" if ident is None else "u")
    raw = body.removeprefix(b"\xef\xbb\xbf").strip()
    if format_name == "fhir-ndjson":
        # inside JSON a line end stands between tokens alone: the line that is kept says the same
        return Posted((action,), raw.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
    url = kind if ident is None else f"{kind}/{ident}"
    named = f"urn:uuid:{uuid.uuid5(_NAMES, raw.hex())}" if own is None else None
    return Posted((action,), _bundle("POST" if ident is None else "PUT", url, named, raw))


def deletion(kind: str, ident: str, format_name: str) -> Posted:
    """Return a delete; raises `Bad` where the feed's format cannot say it."""
    if format_name != "fhir-bundle":
        raise Bad(405, "not-supported", "this feed takes no deletions; its format would have to be fhir-bundle")
    return Posted(((kind, "d"),), _bundle("DELETE", f"{kind}/{ident}", None, None))


def bundle(body: bytes, format_name: str, *, message: bool = False) -> Posted:
    """Return a Bundle's actions, entry by entry; raises `Bad`."""
    if format_name != "fhir-bundle":
        raise Bad(422, "not-supported", "this feed takes single resources; its format would have to be fhir-bundle")
    said = _object(body)
    if said.get("resourceType") != "Bundle":
        raise Bad(400, "invalid", "a Bundle is needed here", "resourceType")
    kind = said.get("type")
    if kind not in BUNDLES or (message and kind != "message"):
        wanted = "message" if message else ", ".join(BUNDLES)
        raise Bad(422, "not-supported", f"the Bundle's type is none of: {wanted}", "Bundle.type")
    entries = said.get("entry", [])
    if not isinstance(entries, list) or not entries:
        raise Bad(422, "required", "the Bundle has no entry", "Bundle.entry")
    actions = tuple(_action(number, entry) for number, entry in enumerate(entries))
    if message and actions[0][0] != "MessageHeader":
        raise Bad(422, "structure", "a message begins with its MessageHeader", "Bundle.entry[0].resource")
    own = said.get("id")
    control = own.encode() if message and isinstance(own, str) else None
    return Posted(actions, body.removeprefix(b"\xef\xbb\xbf").strip() + b"\n", control)


def _action(number: int, entry: Any) -> Action:
    place = f"Bundle.entry[{number}]"
    if not isinstance(entry, dict):
        raise Bad(400, "structure", "an entry is an object", place)
    request = entry.get("request", {})
    if not isinstance(request, dict):
        raise Bad(400, "structure", "a request is an object", f"{place}.request")
    method = request.get("method", "POST")
    if not isinstance(method, str) or method not in METHODS:
        raise Bad(422, "not-supported", "an entry creates, updates or deletes", f"{place}.request.method")
    kind = _type(entry["resource"]) if "resource" in entry else _deleted(method, request.get("url"))
    if kind is None:
        raise Bad(400, "structure", "an entry has a resource, or deletes one", place)
    return kind, METHODS[method]


def _type(resource: Any) -> str | None:
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    return kind if isinstance(kind, str) and TYPE.fullmatch(kind) else None


def _deleted(method: str, url: Any) -> str | None:
    match = REST.fullmatch(url) if method == "DELETE" and isinstance(url, str) else None
    return match[1] if match else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        raise Bad(400, "structure", "the body is not JSON") from None
    if not isinstance(said, dict):
        raise Bad(400, "structure", "the body is not a resource")
    return said


def _bundle(method: str, url: str, named: str | None, raw: bytes | None) -> bytes:
    """Return one entry as a Bundle around the bytes as they came."""
    parts = [b'{"resourceType":"Bundle","type":"batch","entry":[{']
    if named:
        parts.append(b'"fullUrl":"' + named.encode() + b'",')
    if raw is not None:
        parts += [b'"resource":', raw, b","]
    parts.append(b'"request":{"method":"' + method.encode() + b'","url":"' + url.encode() + b'"}}]}\n')
    return b"".join(parts)
