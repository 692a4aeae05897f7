"""The coverage's figure, proved: what counts as implemented for a segment is seen in the output of a conversion."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.source import files
from tasks.convert.coverage import measure
from tests.property.test_v2_nothing_lost import STRUCTURES, landed
from tests.v2_marks import CODES, Marked


@pytest.mark.slow
def test_the_guide_s_implemented_fields_are_in_the_output_of_some_message() -> None:
    named = os.environ.get("SLUICE_REFERENCE", "")
    if not named:
        pytest.skip("SLUICE_REFERENCE names no folder with the v2-to-FHIR guide")
    folder = Path(named) if (Path(named) / "segments").is_dir() else Path(named) / "v2-to-fhir"
    planted, seen = _planted_and_seen()
    rows = measure(folder, compile_maps(files()), done := [])["segments"]
    assert rows.implemented == len(done)
    fields = {found[0] for row in done if (found := re.findall(r"[A-Z][A-Z0-9]{2}-\d+", row))} & planted
    unseen = sorted(fields - seen)
    assert len(fields) > 350
    # The rest gives way to a field beside it, or is a code or an amount that a marker is not.
    assert len(unseen) <= 0.08 * len(fields), unseen


def _planted_and_seen() -> tuple[set[str], set[str]]:
    planted: set[str] = set()
    seen: set[str] = {f"{name}-{number}" for name, number in CODES}
    for version in ("2.5.1", "2.8.2"):
        for structure in STRUCTURES:
            marked = Marked(structure, version)
            planted |= {_field(place) for place, _ in marked.marks}
            seen |= {_field(place) for place in landed(marked)}
    return planted, seen


def _field(place: str) -> str:
    return re.sub(r"\[\d+\]", "", place).partition(".")[0]
