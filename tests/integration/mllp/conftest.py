"""A site whose partner sends over MLLP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mllp_site import Site


@pytest.fixture
def site(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    (tmp_path / "feeds").mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    made = Site(warehouse_url, tmp_path / "feeds")
    made.configure()
    yield made
    made.stop()
