"""The sample feeds of docs/fhir-exchange.md are good feeds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from deployments.feed_check import check_feed
from tasks.settings import PROJECT

PAGE = (PROJECT / "docs" / "fhir-exchange.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_every_feed_of_the_page_passes_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("feeds", "destinations"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    monkeypatch.setenv("SLUICE_DESTINATIONS", str(tmp_path / "destinations"))
    for name in ("hospital", "lab"):
        monkeypatch.setenv(f"SLUICE_CONNECTION_{name.upper()}", json.dumps({"base_url": f"https://{name}.example.org"}))
    (sample,) = [block for block in BLOCKS if "kind: fhir\n" in block]
    feeds = [block for block in BLOCKS if "kind: fhir-rest" in block]
    assert len(feeds) == 4
    checked = 0
    for block in feeds:
        name = "lab" if "connection: lab" in block else "hospital"
        both = "peer:" in block
        for each in ("hospital", "lab"):
            path = tmp_path / "destinations" / f"{each}.yaml"
            path.write_text(sample.replace("connection: hospital", f"connection: {each}")) if both else path.unlink(
                missing_ok=True
            )
        text = block if "format:" in block else f"{block}format: fhir-bundle\n"
        (tmp_path / "feeds" / f"{name}.fhir.yaml").write_text(text)
        assert check_feed(f"{name}.fhir") == []
        checked += 1
    assert checked == 4
