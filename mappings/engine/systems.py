"""Names of code systems and assigning authorities to URIs."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*))+")
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_DNS = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_V2 = re.compile(r"HL7(\d{4})|(\d{4})")
_URI = re.compile(r"(https?://|urn:)\S+")
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"


@lru_cache(maxsize=1)
def _names() -> dict[str, str]:
    with (Path(__file__).parent.parent / "codes" / "CodingSystem.csv").open(encoding="utf-8", newline="") as rows:
        return {row["code"].upper(): row["to_code"] for row in csv.DictReader(rows)}


@lru_cache(maxsize=65536)
def code_system(name: str) -> str | None:
    """Return the URI of a coding system named as in HL7 table 0396 (`LN`, `HL70001`, an OID); None for a local name."""
    known = _names().get(name.upper())
    if known:
        return known
    table = _V2.fullmatch(name)
    if table:
        return f"{TERMINOLOGY}v2-{table.group(1) or table.group(2)}"
    return universal(name, "")


@lru_cache(maxsize=65536)
def universal(value: str, kind: str) -> str | None:
    """Return a universal id (HD.2 with the type in HD.3) as a URI; None where it means something only locally."""
    kind = kind.upper()
    if value.lower().startswith(("urn:oid:", "urn:uuid:")):
        return value
    if kind in {"ISO", "OID", ""} and _OID.fullmatch(value):
        return f"urn:oid:{value}"
    if kind in {"UUID", "GUID", ""} and _UUID.fullmatch(value):
        return f"urn:uuid:{value.lower()}"
    if kind in {"URI", "URL", "HTTP", ""} and _URI.fullmatch(value):
        return value
    if kind == "DNS" and _DNS.fullmatch(value):
        return f"urn:dns:{value.lower()}"
    return None


@lru_cache(maxsize=4096)
def system_name(uri: str) -> str:
    """Return the name of a code system in HL7 table 0396 (`LN`, `HL70001`), or the local name that a sender gave it.

    Where there is neither it is the URI itself.
    """
    for known, found in _names().items():
        if found == uri:
            return known
    table = re.fullmatch(re.escape(TERMINOLOGY) + r"v2-(\d{4})", uri)
    if table:
        return f"HL7{table[1]}"
    return unquote(uri.rpartition(":")[2]) if uri.startswith("urn:sluice:") else uri.removeprefix("urn:oid:")
