"""Write the expected side of golden cases: `python -m tests.golden.write CASE…`; read it before you commit it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from mappings.engine.json import dumps
from mappings.engine.model import Profile
from tasks.convert.bundle import bundle
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.model import Conversion
from tasks.parse.hl7v2 import Hl7v2Format

CASES = Path(__file__).parent / "v2"
PROFILE = Profile("northside", timezone="America/New_York", patient=("MR@NORTHSIDE", "PI"))


def conversions(case: Path, profile: Profile = PROFILE) -> list[Conversion]:
    """Return what becomes of each message of a case's input."""
    form, converter = Hl7v2Format(profile), Hl7v2Converter(profile)
    return [converter.convert(form.parse(frame)) for frame in form.split([(case / "input.hl7").read_bytes()])]


def expected(case: Path) -> bytes:
    """Return the expected side of a case: bundles with their findings and unmapped codes."""
    lines: list[dict[str, Any]] = []
    for conversion in conversions(case):
        findings = [f"{found.severity} {found.code} {found.location}" for found in conversion.findings]
        unmapped = [f"{code.table} {code.system} {code.code} {code.location}" for code in conversion.unmapped]
        deleted = [f"{e.resource['resourceType']}/{e.resource['id']}" for e in conversion.entries if e.deleted]
        lines.append({
            "bundle": bundle(conversion), "event_time": conversion.event_time, "findings": findings,
            "unmapped": unmapped, "deleted": deleted,
        })  # fmt: skip
    return msgspec.json.format(dumps(lines), indent=1) + b"\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        (CASES / name / "expected.json").write_bytes(expected(CASES / name))
