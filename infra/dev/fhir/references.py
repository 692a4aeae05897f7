"""The references inside a resource of a transaction: what other entries are called, and what is to be searched."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from infra.dev.fhir.outcome import Refusal
from tasks.model import Resource

CONDITIONAL = re.compile(r"[A-Z][A-Za-z]+\?")
_ELEMENTS = frozenset({"reference", "url", "valueUri", "valueUrl", "valueUuid", "valueCanonical"})


class Place(NamedTuple):
    """Where a reference stands."""

    holder: dict[str, Any]
    element: str

    @property
    def text(self) -> str:
        """The reference as it stands now."""
        return str(self.holder[self.element])

    def set(self, reference: str) -> None:
        """Replace the reference."""
        self.holder[self.element] = reference


def places(value: Any) -> Iterator[Place]:
    """Yield every place in `value` where a URL may be a reference (R4 RESTful API 3.1.0.11.2)."""
    if isinstance(value, list):
        for item in value:
            yield from places(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, (dict, list)):
                yield from places(item)
            elif name in _ELEMENTS and isinstance(item, str):
                yield Place(value, name)


def link(body: Resource, names: Mapping[str, str], bundled: bool) -> list[Place]:
    """Replace in `body` the references to `names`' keys; return those that are conditions.

    Raises `Refusal` 400 for a reference to a `urn:uuid:` that no entry of the bundle has.
    """
    conditional = []
    for place in list(places(body)):
        text, fragment, rest = place.text.partition("#")
        if text and text in names:
            place.set(names[text] + fragment + rest)
        elif place.element == "reference" and CONDITIONAL.match(text):
            conditional.append(place)
        elif bundled and place.element == "reference" and text.startswith(("urn:uuid:", "urn:oid:")):
            raise Refusal(400, "a reference names no entry of the bundle", code="not-found")
    return conditional
