"""docs/destinations.md names every key of every kind, and its examples are good."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mappings.engine.yamlfile import YamlFile
from tasks import registry
from tasks.destinations import read
from tasks.errors import ConfigError
from tasks.feed import Enrichment, Rule
from tasks.route.lookup import LookupOptions
from tasks.settings import PROJECT

PAGE = (PROJECT / "docs" / "destinations.md").read_text()
KINDS = ["fhir", "mllp", "sftp", "s3", "directory", "memory"]
BLOCKS = [YamlFile(Path("page.yaml"), text).data for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_kind_is_on_the_page(kind: str) -> None:
    parts = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")}
    [section] = [part for title, part in parts.items() if f"`{kind}`" in title or f"kind: {kind}`" in title]
    general = PAGE.partition("\n## ")[0]
    keys = set(re.findall(r"`([a-z_]+)`", section + general))
    assert set(registry.find("destinations", kind).Options.model_fields) <= keys
    assert set(LookupOptions.model_fields) <= set(re.findall(r"`([a-z_]+)`", PAGE))


def test_the_examples_of_routes_and_lookups_are_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "names", lambda _group: ["by-ward", "mark"])
    [routes] = [block["route"] for block in BLOCKS if "route" in block]
    [steps] = [block["enrich"] for block in BLOCKS if "enrich" in block]
    assert len([Rule(**rule) for rule in routes]) == 4
    assert len([Enrichment(**step) for step in steps]) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: fhri\n", "there.yaml:1: fhri is not among the destinations"),
        ("kind: fhir\nbase_ur: x\n", "there.yaml:2: `base_ur` is not a key here"),
        ("kind: directory\nformat: csv\n", "needs a `view:`"),
        ("kind: directory\nrotate: {record: 5}\n", "there.yaml:2: `record` is not a key here"),
        ("kind: mllp\nmessages: [ADT_A99]\n", "there.yaml:2"),
        ("kind: fhir\nsend: pass\n", "there.yaml:2"),
    ],
)
def test_a_mistake_in_a_destinations_file_is_told_with_line_and_word(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "there.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        read(str(tmp_path / "there.yaml"))
    assert said in str(raised.value)
