"""docs/sources.md names every key of every kind, and its examples are good."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks import registry
from tasks.feed import load
from tasks.http_auth import parse_auth
from tasks.settings import PROJECT

PAGE = (PROJECT / "docs" / "sources.md").read_text()
# fhir-rest has a page of its own
KINDS = ["sftp", "s3", "directory", "fhir-bulk", "mllp", "http"]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_kind_is_on_the_page(kind: str) -> None:
    parts = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")}
    [section] = [part for title, part in parts.items() if f"`{kind}`" in title or f"kind: {kind}`" in title]
    keys = set(re.findall(r"`([a-z_]+)`", section + PAGE.partition("\n## ")[0]))
    assert set(registry.find("sources", kind).Options.model_fields) <= keys


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_are_feeds(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eastside.example.yaml").write_text(text)
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path))
    assert load("eastside.example").source.kind in KINDS


def test_the_auth_files_are_such(tmp_path: Path) -> None:
    [lines] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    kinds = [parse_auth(json.loads(line), "page").type for line in lines.splitlines()]
    assert kinds == ["smart-backend", "client-credentials", "bearer", "basic"]
