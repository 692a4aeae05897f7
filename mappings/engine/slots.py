"""Slots to resource: the one way in which source fields become a FHIR resource.

The converter assembles one message's slots with it, the store assembles the newest contribution of every slot.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from mappings.engine.model import Resource, Slots


@lru_cache(maxsize=65536)
def slot_order(slot: str) -> tuple[Any, ...]:
    """Return the sorting key of a slot: defaults first, then by name with numbers as numbers (PID-5 < PID-11)."""
    parts = re.split(r"(\d+)", slot)
    return (not slot.startswith("~"), [int(part) if part.isdigit() else part for part in parts])


def assemble(resource_type: str, resource_id: str, slots: Slots) -> Resource:
    """Return the resource that `slots` describe.

    Lists of several slots are joined in slot order without equal elements; of other values the last slot's stands;
    what a `~` slot says stands only where no other slot says anything; of a choice element one name stands.
    The result does not depend on the order in which the slots were learned.
    """
    resource: Resource = {"resourceType": resource_type, "id": resource_id}
    defaults: list[tuple[str, Any]] = []
    for slot in _in_order(tuple(slots)):
        if slot.startswith("~"):
            defaults.extend(slots[slot])
            continue
        said = slots[slot]
        for path, value in said if len(said) < MANY else _joined(said):
            _put(resource, path, value)
    for path, value in defaults:
        if _get(resource, path) is None:
            _put(resource, path, value)
    if resource_type in _CHOOSING:
        _choose(resource)
    return resource


@lru_cache(maxsize=65536)
def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return slots in slot order; messages of one kind bring the same slots again and again."""
    return tuple(sorted(names, key=slot_order))


CHOICES = (
    ("deceasedBoolean", "deceasedDateTime"),
    ("multipleBirthBoolean", "multipleBirthInteger"),
    ("occurrenceDateTime", "occurrencePeriod"),
    ("occurrenceDateTime", "occurrenceTiming"),
    ("occurrencePeriod", "occurrenceTiming"),
    ("onsetString", "onsetDateTime"),
    ("performedDateTime", "performedPeriod"),
    ("medicationCodeableConcept", "medicationReference"),
    ("collectedDateTime", "collectedPeriod"),
    ("_start", "start"),
    ("_end", "end"),
)
"""Pairs of one choice element's names, the one that says less first: two slots may each have said one of them.

The name with an underscore says why there is none."""


_CHOOSING = frozenset({
    "Patient", "ServiceRequest", "MedicationRequest", "Condition", "AllergyIntolerance", "Procedure", "Specimen",
    "Appointment",
})  # fmt: skip
"""The living types that have one of them."""


def _choose(resource: Resource) -> None:
    """Of a choice element leave the name that says most, so that PID-29's date stands before PID-30's yes.

    What was entered in error has no clinical status (ait-2, con-5), whatever a message said of it before.
    """
    if "clinicalStatus" in resource and "verificationStatus" in resource:
        codings = resource["verificationStatus"].get("coding", ())
        if any(coding.get("code") == "entered-in-error" for coding in codings):
            del resource["clinicalStatus"]
    for less, more in CHOICES:
        if less in resource and more in resource:
            del resource[less]
    if "collection" in resource:
        _choose(resource["collection"])


MANY = 16
"""Repetitions that are held against each other one by one; of more it is known what is there already."""


def add_new(have: list[Any], value: list[Any]) -> None:
    """Append to a list the elements that it does not have yet."""
    if len(have) + len(value) < MANY:
        have.extend(element for element in value if element not in have)
        return
    known = {repr(element) for element in have}
    for element in value:
        text = repr(element)
        if text not in known:
            known.add(text)
            have.append(element)


def _joined(said: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return what a slot says with the lists that follow each other at one path as one."""
    joined: list[tuple[str, Any]] = []
    for path, value in said:
        if joined and value.__class__ is list and joined[-1][0] == path and joined[-1][1].__class__ is list:
            joined[-1][1].extend(value)
        else:
            joined.append((path, [*value] if value.__class__ is list else value))
    return joined


def _put(resource: Resource, path: str, value: Any) -> None:
    if path not in resource and "." not in path:
        # Nearly all that is said: the first at its place, and nothing that could be there twice.
        if value.__class__ is not list:
            resource[path] = value
            return
        if len(value) < 2:
            resource[path] = [*value]
            return
    node = resource
    names = path.split(".")
    for name in names[:-1]:
        # What a slot said may be shared with other messages.
        node[name] = node = {**node.get(name, {})}
    last = names[-1]
    if isinstance(value, list):
        add_new(node.setdefault(last, []), value)
    elif isinstance(value, dict) and isinstance(node.get(last), dict):
        node[last] = {**node[last], **value}
    else:
        node[last] = value


def _get(resource: Resource, path: str) -> Any:
    node: Any = resource
    for name in path.split("."):
        if not isinstance(node, dict) or name not in node:
            return None
        node = node[name]
    return node
