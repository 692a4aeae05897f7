"""A conversion as one FHIR Bundle, in which references between its resources resolve (R4, bundle.html#references)."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from mappings.engine.elements import r4
from tasks.model import CLEARED, WITHDRAWN, Conversion, Entry


def bundle(conversion: Conversion) -> dict[str, Any]:
    """Return a Bundle: a message where a MessageHeader leads, a collection otherwise.

    `fullUrl` is `urn:uuid:` and the entry's id (two resources of one id get one of type and id); what `""` cleared
    stands in the entry's extensions, and so does that a thing is withdrawn: its resource may be type and id alone.
    """
    entries = sorted(conversion.entries, key=lambda entry: entry.resource["resourceType"] != "MessageHeader")
    urls = _urls(entries)
    leads = bool(entries) and entries[0].resource["resourceType"] == "MessageHeader"
    result: dict[str, Any] = {"resourceType": "Bundle", "type": "message" if leads else "collection"}
    if conversion.identifier:
        result["identifier"] = conversion.identifier
    if conversion.timestamp:
        result["timestamp"] = conversion.timestamp
    if entries:
        result["entry"] = [_entry(entry, urls) for entry in entries]
    return result


def _urls(entries: list[Entry]) -> dict[str, str]:
    urls: dict[str, str] = {}
    taken: set[str] = set()
    for entry in entries:
        kind, identity = entry.resource["resourceType"], entry.resource["id"]
        url = f"urn:uuid:{identity}"
        if url in taken or not _is_uuid(identity):
            url = f"urn:uuid:{_named(f'{kind}/{identity}')}"
        taken.add(url)
        urls[f"{kind}/{identity}"] = url
    return urls


def _is_uuid(text: str) -> bool:
    return len(text) == 36 and text.count("-") == 4


def _named(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _entry(entry: Entry, urls: dict[str, str]) -> dict[str, Any]:
    resource = entry.resource
    result: dict[str, Any] = {"fullUrl": urls[f"{resource['resourceType']}/{resource['id']}"]}
    if entry.cleared or entry.deleted:
        withdrawn = [{"url": WITHDRAWN, "valueBoolean": True}] if entry.deleted else []
        result["extension"] = [*withdrawn, *({"url": CLEARED, "valueString": path} for path in entry.cleared)]
    result["resource"] = _pointed(resource, urls)
    return result


def _pointed(resource: dict[str, Any], urls: dict[str, str]) -> dict[str, Any]:
    """Return `resource` with references to the bundle's own resources rewritten; what holds none is not copied."""
    holders = _holders(resource["resourceType"])
    changed = {}
    for name, value in resource.items():
        if name in holders and value.__class__ is not str:
            new = _walk(value, urls)
            if new is not value:
                changed[name] = new
    return {**resource, **changed} if changed else resource


@cache
def _holders(resource_type: str) -> frozenset[str]:
    """Return the elements of a resource type under which a Reference can stand."""
    elements = r4().get(resource_type, {})
    return frozenset(name for name, kind in elements.items() if _holds(kind.rstrip("*"), frozenset()))


def _holds(kind: str, seen: frozenset[str]) -> bool:
    if kind in {"Reference", "Resource", "Extension"}:
        return True
    if kind in seen or kind in {"Identifier", "Coding", "CodeableConcept", "Quantity"}:
        return False
    inner = r4().get(kind, {})
    return any(name != "extension" and _holds(part.rstrip("*"), seen | {kind}) for name, part in inner.items())


def _walk(value: Any, urls: dict[str, str]) -> Any:
    if value.__class__ is dict:
        pointer = value.get("reference")
        changed = {"reference": urls[pointer]} if pointer.__class__ is str and pointer in urls else {}
        for name, part in value.items():
            if part.__class__ is dict or part.__class__ is list:
                new = _walk(part, urls)
                if new is not part:
                    changed[name] = new
        return {**value, **changed} if changed else value
    if value.__class__ is list:
        parts = [_walk(part, urls) for part in value]
        return parts if any(new is not old for new, old in zip(parts, value, strict=True)) else value
    return value
