"""The values that move from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from mappings.engine.model import Conversion, Entry, Finding, Resource, Severity, Slots, UnmappedCode

__all__ = [
    "BEGIN",
    "CLEARED",
    "DELETED",
    "DIRECTORY",
    "WITHDRAWN",
    "Conversion",
    "Entry",
    "Finding",
    "Frame",
    "Notice",
    "Offer",
    "Parsed",
    "Position",
    "Resource",
    "Severity",
    "Slots",
    "UnmappedCode",
    "moment",
    "record_id",
    "split_record_id",
]


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading a delivery goes on.

    - `offset` is the byte at which the next frame starts; `ordinal` is that frame's number, from 1.
    - `context` is what frames need from further up (a CSV's header row, a batch's counts so far): JSON values only.
    """

    offset: int = 0
    ordinal: int = 1
    context: Mapping[str, Any] = field(default_factory=dict)


BEGIN = Position()

DIRECTORY = frozenset({"Device", "Location", "Organization", "Practitioner", "PractitionerRole"})
"""Types that nearly every record of a feed says again in the same words."""

CLEARED = "urn:sluice:cleared"
"""The extension of a Bundle's entry that names what the sender cleared, as a FHIRPath."""

WITHDRAWN = "urn:sluice:deleted"
"""The extension of a Bundle's entry that says that its resource is withdrawn, of which type and id may be all."""

DELETED = "!deleted"
"""The slot of a record that withdrew a thing; it counts while no newer record says anything of it."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One record's bytes inside a delivery, before anybody has understood them.

    - `ordinal` counts from 1 within the delivery; `location` is what a partner would look for (`message 3`, `line 17`).
    - `next` is the position after this frame; reading again from it yields the same frames that follow now.
    - `key` is set where the same bytes in another delivery are the same record (HL7 v2: it has its control id and
      time inside); None where saying the same thing again is news (a CSV row).
    - `findings` are about framing (a count that disagrees, a missing end byte); an error quarantines the record.
    """

    ordinal: int
    location: str
    data: bytes
    next: Position
    key: bytes | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a frame holds.

    - `content` is the format's own value: an HL7 v2 message, a list of CSV rows, a FHIR resource.
    - `findings` are what was odd about it and did not stop it.
    """

    frame: Frame
    content: Any
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that a source could hand over now.

    - `name` is what the partner calls it; `version` changes when its bytes may have changed (etag, mtime and size).
    - `size` is in bytes, None where the source does not know it.
    - `meta` is what the source needs to open and to finish it; JSON values only.
    """

    name: str
    version: str
    size: int | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """A server said that a resource has changed; type and id are empty where it did not say which."""

    number: int
    type: str = ""
    id: str = ""


@lru_cache(1024)
def moment(text: str) -> datetime:
    """Return the time of an event, ISO 8601 with an offset; raises `ValueError` where no calendar has it.

    A leap second counts as the one before it: Python's clocks have none.
    """
    return datetime.fromisoformat(text.replace(":60", ":59", 1))


def record_id(delivery_id: int, ordinal: int) -> int:
    """Return the record's id: the delivery in the upper 31 bits, the ordinal in the lower 32.

    A record's id is computed, not drawn, so that processing a delivery again names the same records.
    """
    return delivery_id << 32 | ordinal


def split_record_id(record: int) -> tuple[int, int]:
    """Return the delivery's id and the ordinal within it."""
    return record >> 32, record & 0xFFFFFFFF
