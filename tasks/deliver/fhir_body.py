"""What is taken off a resource before a FHIR server gets it."""

from __future__ import annotations

from typing import Any

from tasks.model import Resource

_OURS = "urn:sluice:"
_ALTERNATE = "http://hl7.org/fhir/StructureDefinition/alternate-codes"


def without_marks(resource: Resource) -> Resource:
    """Return the resource without the extensions that are Sluice's own notes (`urn:sluice:cleared`)."""
    extensions = resource.get("extension")
    if not isinstance(extensions, list):
        return resource
    kept = [one for one in extensions if not (isinstance(one, dict) and str(one.get("url", "")).startswith(_OURS))]
    if len(kept) == len(extensions):
        return resource
    out = {name: value for name, value in resource.items() if name != "extension"}
    return out | ({"extension": kept} if kept else {})


def without_lone_alternates(value: Any) -> Any:
    """Return a JSON value without the codes of which the extension `alternate-codes` is all that is said.

    The v2-to-FHIR guide keeps a code so for which FHIR has no word; HL7's validator wants a code where one is bound.
    """
    if isinstance(value, list):
        return [without_lone_alternates(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {name: without_lone_alternates(one) for name, one in value.items()}
    if "url" in value:
        # an extension's own value cannot be left out
        return out
    for name in [name for name in out if name.startswith("_")]:
        _leave_out(out, name[1:], name)
    return out


def _leave_out(out: dict[str, Any], name: str, beside: str) -> None:
    """Take a primitive element's alternate codes off where it has no value; a list's places stay paired."""
    more, own = out[beside], out.get(name)
    if not isinstance(more, list):
        if own is None and _is_alternate(more):
            del out[beside]
        return
    values = own if isinstance(own, list) else [None] * len(more)
    pairs = [(one, ext) for one, ext in zip(values, more, strict=False) if one is not None or not _is_alternate(ext)]
    for key, part in ((name, [one for one, _ in pairs]), (beside, [ext for _, ext in pairs])):
        out.pop(key, None)
        if any(one is not None for one in part):
            out[key] = part


def _is_alternate(more: Any) -> bool:
    extensions = more.get("extension") if isinstance(more, dict) and more.keys() == {"extension"} else None
    listed = extensions if isinstance(extensions, list) else []
    return bool(listed) and all(isinstance(one, dict) and one.get("url") == _ALTERNATE for one in listed)
