"""Texts to FHIR's primitive types; each returns None, with a finding, for what is not one."""

from __future__ import annotations

import base64
import binascii
import re
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mappings.engine import times
from mappings.engine.registry import text
from mappings.engine.systems import code_system, universal
from mappings.engine.tables import Table

if TYPE_CHECKING:
    from mappings.engine.run import Run

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_MAGNITUDES = range(-300, 301)
"""Of numbers that stores and servers take; more is a slip of the keyboard or of a program."""
_WHITE = re.compile(r"[ \t\r\n]+")


@lru_cache(maxsize=65536)
def number(value: str) -> Decimal | None:
    """Return a number with the digits that the sender wrote (5.10 stays 5.10); None where it is not one."""
    value = value.strip()
    if not _NUMBER.fullmatch(value):
        return None
    found = Decimal(value)
    return found if found.adjusted() in _MAGNITUDES else None


def counted(value: str) -> int | None:
    """Return how often or how much, cut to a whole number of FHIR's (less than 2^31); None where it is not that."""
    found = number(value)
    return int(found) if found is not None and 0 <= found < 2**31 else None


@text("decimal", "decimal")
def decimal(value: str, run: Run, at: str, table: Table | None = None) -> Decimal | None:
    found = number(value)
    return found if found is not None else run.find("not-a-number", at)


def _whole(value: str, run: Run, at: str, least: int) -> int | None:
    found = number(value)
    if found is None or found != found.to_integral_value() or not least <= found < 2**31:
        return run.find("not-a-number", at)
    return int(found)


@text("integer", "integer")
def integer(value: str, run: Run, at: str, table: Table | None = None) -> int | None:
    return _whole(value, run, at, -(2**31))


@text("positiveInt", "positiveInt")
def positive_int(value: str, run: Run, at: str, table: Table | None = None) -> int | None:
    return _whole(value, run, at, 1)


@text("unsignedInt", "unsignedInt")
def unsigned_int(value: str, run: Run, at: str, table: Table | None = None) -> int | None:
    return _whole(value, run, at, 0)


@text("boolean", "boolean")
def boolean(value: str, run: Run, at: str, table: Table | None = None) -> bool | None:
    known = {"Y": True, "N": False, "1": True, "0": False, "T": True, "F": False, "TRUE": True, "FALSE": False}
    found = known.get(value.strip().upper())
    return found if found is not None else run.find("not-yes-or-no", at)


@text("dateTime", "dateTime")
def date_time(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return run.moment(times.read(value.strip(), run.timezone), at)


@text("date", "date")
def date(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return times.date(value.strip()) or run.find("not-a-date", at)


@text("instant", "instant")
def instant(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return run.moment(times.read_instant(value.strip(), run.timezone), at)


@text("time", "time")
def clock(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return run.moment(times.clock(value.strip()), at, "not-a-time")


@text("code", "code")
def code(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    value = value.strip()
    return value if value.isalnum() else _WHITE.sub(" ", value) or None


@text("uri", "uri")
def uri(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    value = value.strip()
    if not value:
        return None
    return value if not _WHITE.search(value) else run.find("not-a-uri", at)


@text("id", "id")
def fhir_id(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return re.sub(r"[^A-Za-z0-9.-]", "-", value.strip())[:64] or None


@text("base64Binary", "base64Binary")
def base64_binary(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    # Senders miscount the padding, and break the lines.
    packed = "".join(value.split()).rstrip("=")
    packed += "=" * (-len(packed) % 4)
    try:
        base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        return run.find("not-base64", at)
    return packed or None


@text("code-system", "uri")
def system(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    """The URI of a coding system (HL7 table 0396); a local name becomes a URI within the partner's namespace."""
    value = value.strip()
    return (code_system(value) or run.local_system(value)) if value else None


@text("url-or-oid", "uri")
def url_or_oid(value: str, run: Run, at: str, table: Table | None = None) -> str | None:
    return universal(value.strip(), "") or uri(value, run, at, table)


@text("coded", "Coding")
def coded(value: str, run: Run, at: str, table: Table | None = None) -> dict[str, Any] | None:
    """A code as Coding: the table's counterpart, or the code itself in the table's own system, with a finding."""
    value = _WHITE.sub(" ", value).strip()
    if not value:
        return None
    if table is None:
        return {"code": value}
    target = table.get(value)
    if target is None:
        if value not in table.codes:
            run.unmapped(table, table.source, value, at)
        return {"system": table.source, "code": value} if table.source else {"code": value}
    coding = {"system": target.system, "code": target.code} if target.system else {"code": target.code}
    if target.display:
        coding["display"] = target.display
    return coded_with(coding)


def coded_with(coding: dict[str, Any]) -> dict[str, Any]:
    """Return `coding`; a place to hang what every coding needs."""
    return coding


@text("concept", "CodeableConcept")
def concept(value: str, run: Run, at: str, table: Table | None = None) -> dict[str, Any] | None:
    """A code as CodeableConcept with one coding."""
    coding = coded(value, run, at, table)
    return {"coding": [coding]} if coding else None
