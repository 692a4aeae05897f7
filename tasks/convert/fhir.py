"""FHIR to FHIR: a partner's resources with the store's ids and references.

A resource's identity at its source is its own id; where it has none, the id in the URL it is PUT to, else its
bundle's fullUrl, else its content (with a finding). Everything else is kept as it was sent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from mappings.engine.ids import resource_id
from mappings.engine.model import Conversion, Entry, Finding, Profile, Resource
from tasks.convert.fhir_references import References
from tasks.convert.fhir_types import IDENTIFIED
from tasks.errors import ConfigError
from tasks.model import Parsed, moment

FORMAT_VERSION = "1"

_PARTS = ("fhir.py", "fhir_references.py", "fhir_types.py")
_INSTANT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_FULL = re.compile(r"(?P<base>https?://\S*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/\S*)?")
_OF_VERSION = re.compile(
    r"http://hl7\.org/fhir/(?:([0-9]\.[0-9])/StructureDefinition/\w+(?:\|.*)?|StructureDefinition/\w+\|([0-9]\.[0-9]).*)"
)
_HEAD = frozenset({"resourceType", "id"})
_UNPACKED = frozenset({"transaction", "batch", "history", "searchset"})

_sorted = msgspec.json.Encoder(decimal_format="number", order="deterministic")

Context = Mapping[str, Any]


class FhirConverter:
    """Turns a resource into one entry that is replaced whole by its newest `meta.lastUpdated`.

    A line of NDJSON that is a transaction, batch, history or searchset Bundle (bulk export sends deletions so) becomes
    an entry per entry; any other Bundle is a resource like the rest.
    """

    def __init__(self, profile: Profile) -> None:
        if profile.fhir_version not in IDENTIFIED:
            raise ConfigError(f"fhir_version is {profile.fhir_version}: 4.0.1 or 5.0.0 is read")
        self._profile = profile
        self._identified = IDENTIFIED[profile.fhir_version]
        self._source = f"urn:sluice:source:{profile.partner}"
        self.version = _version(profile)

    def convert(self, parsed: Parsed) -> Conversion:
        """Return the resource under its id in the store, with what could not be rewritten as findings."""
        try:
            return self._convert(parsed)
        except RecursionError:
            return self._result([Finding("too-deep", str(parsed.content.get("resourceType")), "error")])

    def _result(self, findings: list[Finding]) -> Conversion:
        return Conversion(findings=findings, mapping_version=self.version, fhir_version=self._profile.fhir_version)

    def _convert(self, parsed: Parsed) -> Conversion:
        result = self._result([])
        resource, context = parsed.content, parsed.frame.context
        members = list(_members(resource)) if _is_unpacked(resource) else [(resource, context)]
        for member, member_context in members:
            self._convert_one(member, member_context, result)
        if not members:
            result.findings.append(Finding("empty-bundle", "Bundle.entry", "error"))
        if any(finding.severity == "error" for finding in result.findings):
            result.entries.clear()
        times = {_event_time(member, member_context) for member, member_context in members}
        result.event_time = times.pop() if len(times) == 1 else None
        return result

    def _convert_one(self, resource: Resource, context: Context, result: Conversion) -> None:
        kind = resource.get("resourceType")
        if not isinstance(kind, str):
            result.findings.append(Finding("not-a-resource", "resourceType", "error"))
            return
        ident = _identity(resource, context)
        if ident is None:
            result.findings.append(Finding("id-from-content", f"{kind}.id"))
            ident = "content:" + hashlib.sha256(_sorted.encode(resource)).hexdigest()
        # what Sluice itself wrote at the source keeps the store's id, and what stands there beside it refers to that
        ours: Mapping[str, str] = context.get("ours", {})
        own = ours.get(f"{kind}/{ident}")
        target = own or resource_id(self._profile.partner, kind, ident)
        if "deletes" in context:
            result.entries.append(Entry({"resourceType": kind, "id": target}, deleted=True))
            return
        if _is_of_another_version(resource, self._profile.fhir_version):
            result.findings.append(Finding("profile-of-another-version", f"{kind}.meta.profile"))
        references = References(self._profile.partner, _base(context), context.get("links", {}), ours)
        # A Bundle that stays one (a document) refers to its own entries, so nothing inside it is renamed.
        copy = dict(resource) if kind == "Bundle" else references.rewrite(resource)
        result.findings.extend(references.findings)
        result.entries.append(Entry(self._named(copy, kind, target, None if own else resource.get("id"))))

    def _named(self, resource: Resource, kind: str, target: str, source_id: Any) -> Resource:
        """Return the resource under its new id, the source's own kept as an identifier and as `meta.source`."""
        named = {"resourceType": kind, "id": target, **{k: v for k, v in resource.items() if k not in _HEAD}}
        if not isinstance(source_id, str):
            return named
        meta = resource.get("meta", {})
        if isinstance(meta, dict):
            named["meta"] = {**meta, "source": meta.get("source", f"{self._source}#{kind}/{source_id}")}
        identifiers = resource.get("identifier", [])
        if kind in self._identified and isinstance(identifiers, list):
            own = {"system": self._source, "value": source_id}
            named["identifier"] = identifiers if own in identifiers else [*identifiers, own]
        return named


def _is_of_another_version(resource: Resource, fhir_version: str) -> bool:
    """Say whether a resource claims a profile of FHIR itself that is another version's than the feed's."""
    meta = resource.get("meta")
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    said = [_OF_VERSION.fullmatch(one) for one in profiles or () if isinstance(one, str)]
    return any(found and not fhir_version.startswith(found[1] or found[2]) for found in said)


def _version(profile: Profile) -> str:
    parts = [(Path(__file__).parent / name).read_bytes() for name in _PARTS]
    parts += [FORMAT_VERSION.encode(), profile.fhir_version.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _is_unpacked(resource: Resource) -> bool:
    return resource.get("resourceType") == "Bundle" and resource.get("type") in _UNPACKED


def _members(bundle: Resource) -> Iterator[tuple[Resource, Context]]:
    """Yield a bundle's resources, each with the context that the format gives an entry of a file of Bundles."""
    entries = [entry for entry in bundle.get("entry", []) if isinstance(entry, dict)]
    contexts = [_entry_context(entry) for entry in entries]
    links = {
        c["fullUrl"]: f"{c['type']}/{c['identity']}" for c in contexts if c["fullUrl"].startswith("urn:") and c["type"]
    }
    for entry, context in zip(entries, contexts, strict=True):
        search = entry.get("search")
        if isinstance(search, dict) and search.get("mode") == "outcome":
            continue
        resource = entry.get("resource")
        if "deletes" in context:
            resource = {"resourceType": context["type"], "id": context["identity"]}
        yield resource if isinstance(resource, dict) else {}, {**context, "links": links}


def _entry_context(entry: Mapping[str, Any]) -> dict[str, Any]:
    resource, request, response = (_object(entry, name) for name in ("resource", "request", "response"))
    full_url = entry["fullUrl"] if isinstance(entry.get("fullUrl"), str) else ""
    method = request.get("method")
    url = _FULL.fullmatch(str(request.get("url", ""))) if method in {"PUT", "DELETE"} else None
    ident = resource.get("id") or (url and url["id"])
    context = {
        "fullUrl": full_url,
        "type": resource.get("resourceType") or (url and url["type"]),
        "identity": ident or (full_url and _last(full_url)),
        "lastModified": response.get("lastModified"),
    }
    return {**context, "deletes": True} if method == "DELETE" else context


def _object(entry: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = entry.get(name)
    return value if isinstance(value, dict) else {}


def _last(full_url: str) -> str:
    if full_url.startswith("urn:"):
        return full_url.rpartition(":")[2]
    found = _FULL.fullmatch(full_url)
    return found["id"] if found else full_url


def _identity(resource: Resource, context: Context) -> str | None:
    own = resource.get("id") or context.get("identity")
    return own if isinstance(own, str) else None


def _base(context: Context) -> str | None:
    found = _FULL.fullmatch(context.get("fullUrl") or "")
    return found["base"] if found else None


def _event_time(resource: Resource, context: Context) -> str | None:
    meta = resource.get("meta")
    time = meta.get("lastUpdated") if isinstance(meta, dict) else context.get("lastModified")
    if not isinstance(time, str) or not _INSTANT.fullmatch(time):
        return None
    try:
        moment(time)
    except ValueError:
        # a day that no calendar has says nothing of when it was: the landing does
        return None
    return time
