"""The examples of docs/extending.md, installed as a site's own package, do what the page says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.engine import csv_functions
from mappings.engine import registry as functions
from mappings.engine.model import Profile
from mappings.engine.site import load_functions
from tasks import registry
from tasks.deliver.port import Item
from tasks.errors import ConfigError
from tasks.feed import Rule
from tasks.model import Frame
from tasks.pipeline import Pipeline
from tasks.route.rules import compile_rules
from tasks.settings import PROJECT
from tasks.source.memory import MemoryState

PAGE = (PROJECT / "docs" / "extending.md").read_text()
POINTS = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "mysite.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    info = folder / "mysite-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mysite\nVersion: 1.0\n")
    assert POINTS is not None
    points = POINTS[1].replace('[project.entry-points."', "[").replace('"]', "]").replace('"', "")
    (info / "entry_points.txt").write_text("\n".join(points.splitlines()[1:]))
    known = set(functions.FUNCTIONS), set(csv_functions.FUNCTIONS)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    load_functions.cache_clear()
    registry.find.cache_clear()
    yield importlib.import_module("mysite")
    sys.path.remove(str(folder))
    del sys.modules["mysite"]
    for table, names in zip((functions.FUNCTIONS, csv_functions.FUNCTIONS), known, strict=True):
        for name in set(table) - names:
            table.pop(name)  # type: ignore[attr-defined]
    load_functions.cache_clear()
    registry.find.cache_clear()


def test_every_word_that_the_page_registers_is_known(site: Any) -> None:
    assert "queue" in registry.names("sources")
    assert "log" in registry.names("destinations")
    with pytest.raises(ConfigError, match="queue"):
        registry.find("sources", "queu")


def test_the_source_hands_over_what_waits_and_ends_it_after_landing(site: Any) -> None:
    kind = registry.find("sources", "queue")
    source, state = kind(kind.Options(kind="queue"), {}), MemoryState()
    taken = []
    for offer in list(source.poll(state)):
        taken.append(b"".join(source.read(offer)))
        state.land(offer)
        source.finish(offer, state)
    assert taken == [b"first", b"second"]
    assert list(source.poll(state)) == []


def test_the_format_and_converter_take_a_record_through_the_stages(site: Any) -> None:
    pipeline = Pipeline(Profile("mine"), "lines")
    frames: list[Frame] = list(pipeline.format.split([b"one\ntwo\n"]))
    assert [frame.location for frame in frames] == ["line 1", "line 2"]
    done = pipeline.run(frames[1])
    assert not done.failed
    assert done.conversion.entries[0].resource["code"] == {"text": "two"}
    assert next(iter(pipeline.format.split([b"two\n"], frames[0].next))).ordinal == 2


def test_the_functions_are_there_for_mappings(site: Any) -> None:
    load_functions()
    assert csv_functions.FUNCTIONS["initials"][0]("Ada Okonkwo") == "AO"
    assert functions.FUNCTIONS["shout"].call("a", None, "", None) == "A"


def test_the_action_chooses_drops_or_leaves_it_to_the_next_rule(site: Any) -> None:
    class Message:
        def __init__(self, ward: str) -> None:
            self.ward = ward

        def first(self, _name: str) -> Message:
            return self

        def value(self, _field: int) -> str:
            return self.ward

    decide = compile_rules([Rule(to=("ehr", "icu"), call="by-ward")])
    assert decide(Message("ICU2")).to == ("icu",)
    assert decide(Message("W1")).to == ("ehr",)
    assert decide(Message("")).dropped == "no ward"
    assert site.mark({"resourceType": "Observation"}, tag="x")["meta"] == {"tag": [{"code": "x"}]}


def test_the_destination_takes_everything(site: Any, tmp_path: Path) -> None:
    kind = registry.find("destinations", "log")
    where = kind(kind.Options(kind="log", path=str(tmp_path / "log")), {})
    assert [one.status for one in where.send([Item("Patient", "p", 3, {})])] == ["sent"]
    where.close()
    assert (tmp_path / "log").read_text() == "Patient/p version 3\n"
