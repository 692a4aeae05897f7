"""Which record speaks of which patients: an erasure finds by an index what would else take reading everything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

from mappings.engine.json import dumps
from tasks.ledger.db import Connection
from tasks.model import Conversion

NOBODY = 0
"""The mark of a record that was looked at and speaks of no patient."""

NOTED = "copy ledger.record_patient (patient, record_id) from stdin (format binary)"
_NAMED = re.compile(rb'"Patient/([A-Za-z0-9.-]{1,64})["/]')


def digest(patient: str) -> bytes:
    """Return what stands for a patient's id."""
    return hashlib.sha256(f"Patient/{patient}".encode()).digest()


@lru_cache(4096)
def mark(patient: str) -> int:
    """Return the number by which records are found that speak of a patient: the first eight bytes of the digest."""
    return int.from_bytes(digest(patient)[:8], "big", signed=True)


def named(kind: str, key: str, text: bytes) -> set[str]:
    """Return the ids of the patients that a resource is or refers to; `text` is its JSON."""
    found = {name.decode() for name in _NAMED.findall(text)}
    return found | {key} if kind == "Patient" else found


def patients(conversion: Conversion) -> set[str]:
    """Return the ids of the patients that a record's resources are or refer to."""
    found: set[str] = set()
    for entry in conversion.entries:
        found |= named(entry.resource["resourceType"], entry.resource["id"], dumps(entry.resource))
    return found


def note(connection: Connection, rows: Iterable[tuple[int, int]]) -> None:
    """Note of whom records speak: marks and records; what is staged again is noted again, which does no harm."""
    noted = sorted(set(rows))
    if not noted:
        return
    with connection.cursor().copy(NOTED) as copy:
        copy.set_types(("int8", "int8"))
        for row in noted:
            copy.write_row(row)


def note_stopped(connection: Connection, records: Iterable[tuple[int, Iterable[str]]]) -> None:
    """Note of whom records speak that are not staged; a record that speaks of nobody is noted as that."""
    note(
        connection, ((key, record) for record, names in records for key in ({mark(name) for name in names} or {NOBODY}))
    )
