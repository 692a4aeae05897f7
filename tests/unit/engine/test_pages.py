"""The generated page and the coverage of the guide."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.fields import page
from mappings.engine.source import ROOT, files
from tasks.convert.coverage import measure


def test_the_page_of_fields_is_that_of_the_maps() -> None:
    written = (ROOT.parent / "docs" / "v2-fields.md").read_text("utf-8")
    assert written == page(compile_maps(files())), "run: python -m mappings.engine.fields > docs/v2-fields.md"


def test_of_the_guide_s_rows_95_percent_are_implemented_and_the_rest_has_its_reason() -> None:
    named = os.environ.get("SLUICE_REFERENCE", "")
    if not named:
        pytest.skip("SLUICE_REFERENCE names no folder with the v2-to-FHIR guide")
    folder = Path(named) if (Path(named) / "segments").is_dir() else Path(named) / "v2-to-fhir"
    counts = measure(folder, compile_maps(files()))
    assert [row for count in counts.values() for row in count.open] == []
    assert sum(c.implemented for c in counts.values()) >= 0.95 * sum(c.rows for c in counts.values())
