"""Rewrites a resource's references into the store's ids (FHIR R4 section 2.3, Reference; 2.36.4, Resolving references).

The same rule holds for a resource's own id and for every reference to it: the id is made of partner, type and the
source's id, so what one partner calls Patient/1 and another calls Patient/1 stay two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from mappings.engine.ids import resource_id
from mappings.engine.model import Finding

_LITERAL = re.compile(
    r"(?P<base>https?://\S*/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?P<version>/_history/[A-Za-z0-9\-.]{1,64})?(?P<fragment>#\S*)?"
)
_BINARY = re.compile(r"Binary/[A-Za-z0-9\-.]{1,64}")

_target = lru_cache(1 << 16)(resource_id)

Path = tuple[Any, str | int | None]
"""A name or an index after the path above it: building it costs nothing, and only a finding reads it."""


class References:
    """Rewrites one record's references; what could not be is kept and noted in `findings`.

    - `base` is the source server's, with its last slash; a URL that begins otherwise is somebody else's.
    - `links` are what URNs (and other full URLs) of the same bundle stand for, as `Type/id`.
    - `ours` are the store's ids of what Sluice wrote at the source, by what the source calls it (`Type/id`).
    """

    def __init__(
        self, partner: str, base: str | None, links: Mapping[str, str], ours: Mapping[str, str] | None = None
    ) -> None:
        self._partner = partner
        self._base = base
        self._links = links
        self._ours = ours or {}
        self.findings: list[Finding] = []

    def rewrite(self, resource: dict[str, Any]) -> dict[str, Any]:
        """Return a copy with every reference rewritten, those in contained resources and extensions too."""
        return self._object(resource, (None, resource.get("resourceType")))

    def _object(self, node: dict[str, Any], path: Path) -> dict[str, Any]:
        copy = dict(node)
        for name, value in node.items():
            kind = type(value)
            if kind is dict:
                copy[name] = self._object(value, (path, name))
            elif kind is list:
                copy[name] = self._list(value, (path, name))
            elif kind is str and name in _REWRITTEN:
                copy[name] = _REWRITTEN[name](self, value, node, (path, name))
        return copy

    def _list(self, values: list[Any], path: Path) -> list[Any]:
        copy = list(values)
        for i, value in enumerate(values):
            if type(value) is dict:
                copy[i] = self._object(value, (path, i))
            elif type(value) is list:
                copy[i] = self._list(value, (path, i))
        return copy

    def _reference(self, text: str, node: Mapping[str, Any], path: Path) -> str:
        if text.startswith("#") or not _is_reference(node):
            return text
        if text in self._links:
            text = self._links[text]
        found = _LITERAL.fullmatch(text)
        if found is None:
            return self._kept(text, path)
        if found["base"] and found["base"] != self._base:
            return self._kept(text, path)
        if found["version"]:
            self._note("reference-version-dropped", path, "information")
        ident = self._ours.get(f"{found['type']}/{found['id']}") or _target(self._partner, found["type"], found["id"])
        return f"{found['type']}/{ident}{found['fragment'] or ''}"

    def _url(self, text: str, node: Mapping[str, Any], path: Path) -> str:
        """Rewrite where an Attachment says that its data is a Binary beside it."""
        del node, path
        if not _BINARY.fullmatch(text):
            return text
        return f"Binary/{self._ours.get(text) or _target(self._partner, 'Binary', text.partition('/')[2])}"

    def _kept(self, text: str, path: Path) -> str:
        if text.startswith("urn:"):
            self._note("unresolved-reference", path)
        elif "?" in text:
            self._note("conditional-reference", path)
        else:
            self._note("foreign-reference", path)
        return text

    def _note(self, code: str, path: Path, severity: Any = "warning") -> None:
        self.findings.append(Finding(code, fhir_path(path), severity))


_REWRITTEN: dict[str, Callable[[References, str, Mapping[str, Any], Path], str]] = {
    "reference": References._reference,
    "url": References._url,
}
_REFERENCE_KEYS = frozenset(
    {"id", "extension", "reference", "_reference", "type", "_type", "identifier", "display", "_display"}
)


def _is_reference(node: Mapping[str, Any]) -> bool:
    """Say whether an object with a `reference` is a Reference: Expression and others have a property of that name."""
    return node.keys() <= _REFERENCE_KEYS


def fhir_path(path: Path) -> str:
    """Return a path as FHIRPath: `Observation.performer[0].reference`."""
    above, step = path
    if above is None:
        return str(step)
    return fhir_path(above) + (f"[{step}]" if isinstance(step, int) else f".{step}")
