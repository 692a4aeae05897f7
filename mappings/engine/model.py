"""The values that a conversion returns: findings, entries and the conversion itself.

They stand here, at the bottom of the import order, because both the mapping
engine and every stage above it speak of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "information"]

Resource = dict[str, Any]
"""A FHIR resource as plain JSON values; decimals are `decimal.Decimal`, so that 5.10 keeps its digits."""

Slots = dict[str, list[tuple[str, Any]]]
"""What each source field said of one resource: slot -> [(path, value), …].

- A slot is the source field's name (`PID-5`, `PV1-3`, `NK1`, a CSV column): all its repetitions are one slot.
- A path is dotted element names from the resource's root without the type (`name`, `period.start`,
  `hospitalization.admitSource`); it never goes through a list. A list value is a list element's whole
  content and is appended to what other slots put there; any other value is set.
- An empty list means that the field said `""`: the slot is cleared.
- A slot whose name starts with `~` holds defaults: used only for paths that no other slot has set.
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a record: a stable code and a place, never a value.

    - `code` is lower-case words with hyphens (`unmapped-field`, `unmapped-code`, `not-a-date`).
    - `location` is `PID-5.1`, `OBX[3]-5`, a column's name or a FHIRPath (`Patient.birthDate`).
    - An `error` quarantines the record; `warning` and `information` are counted.
    """

    code: str
    location: str
    severity: Severity = "warning"


@dataclass(slots=True)
class Entry:
    """One resource that a record speaks of.

    - `resource` is complete, has an id, and is what `assemble(slots)` gives when there are slots.
    - `slots` is None for a fact (result, document, …): it is replaced whole by id and event time.
    - `cleared` are FHIRPaths that the sender cleared with `""` (`Patient.name`).
    - `deleted` says that the thing is withdrawn: the entry's resource then needs only type and id.
    - `shared` says that resource and slots are handed out again where a record says the same: nobody changes them.
    """

    resource: Resource
    slots: Slots | None = None
    cleared: tuple[str, ...] = ()
    deleted: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class UnmappedCode:
    """A code without an entry in its table: kept as the original coding and listed for whoever mends the map."""

    table: str
    system: str
    code: str
    location: str


@dataclass(slots=True)
class Conversion:
    """What became of one record.

    - `entries` is empty when the record could not be converted; then `findings` holds an error.
    - `event_time` is ISO 8601 with an offset: when it happened at the sender (EVN-2, MSH-7, lastUpdated).
    - `identifier` and `timestamp` become `Bundle.identifier` and `Bundle.timestamp`.
    - `mapping_version` is the content hash of the maps that were used.
    """

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    unmapped: list[UnmappedCode] = field(default_factory=list)
    event_time: str | None = None
    identifier: dict[str, str] | None = None
    timestamp: str | None = None
    mapping_version: str = ""
    fhir_version: str = "4.0.1"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a feed tells the converters about its partner.

    - `partner` is the scope of local identifiers and the name of the overlay folder (`mappings/overlays/<partner>`).
    - `mapping` names the mapping: `v2`, or a file's stem under `mappings/csv`.
    - `timezone` is an IANA name for times that carry no offset; None where the format always carries one.
    - `patient` is the declared preference of patient identifiers: `TYPE@AUTHORITY` or `TYPE`, first match wins.
    - `shared_authorities` are assigning authorities whose identifiers mean the same at every partner.
    - `merge` is `patch` (slot by slot) or `replace` (the newest message whole).
    """

    partner: str
    mapping: str = "v2"
    timezone: str | None = None
    patient: tuple[str, ...] = ()
    shared_authorities: tuple[str, ...] = ()
    merge: Literal["patch", "replace"] = "patch"
    fhir_version: str = "4.0.1"
