"""The feeds of a site for chaos: two partners' files, HL7 messages and FHIR Bundles over connections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from infra.chaos.workload import Feed

OF: Mapping[Feed, str] = {
    "hl7": "northside.hl7",
    "csv": "eastlab.results",
    "mllp": "westside.live",
    "http": "southside.bundles",
}
"""The feed that takes a round."""
PUSHED = (OF["mllp"], OF["http"])
"""Feeds whose listener is sent to: how their batches and deliveries are cut is chance."""

_HL7 = """
format: hl7v2
mapping: v2
timezone: America/New_York
identify: {patient: [MR@NORTHSIDE, PI]}
"""
_CSV = """
format: csv
mapping: eastlab-results
timezone: America/New_York
"""
_BUNDLES = """
format: fhir-bundle
"""
_ALL = """
quarantine: {hold_above_percent: 100}
route: [{to: [warehouse, ehr]}]
"""


def texts(hospital: str, laboratory: str, receipts: str) -> dict[str, str]:
    """Return the feed files by the feeds' names.

    - `hospital`, `laboratory`: the `source` of each; `receipts`: the path of the hospital's receipts, the laboratory's
      is the same without a slash before it.
    """
    given = {"hl7": f"receipt: {{path: {receipts}}}\n", "csv": f"receipt: {{path: {receipts.lstrip('/')}}}\n"}
    sources = {"hl7": hospital, "csv": laboratory, "mllp": "kind: mllp", "http": "kind: http, open: true"}
    forms = {"hl7": _HL7, "csv": _CSV, "mllp": _HL7, "http": _BUNDLES}
    return {
        name: f"source: {{{sources[kind]}}}{forms[kind]}{_ALL.lstrip()}{given.get(kind, '')}"
        for kind, name in OF.items()
    }


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write feed files; all sites share them, as they share the processes that have compiled them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder
