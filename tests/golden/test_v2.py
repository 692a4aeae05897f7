"""Golden cases of the HL7 v2 maps: input, the expected bundles, and why the case is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.json import loads
from mappings.engine.source import files
from tasks.convert.contradictions import consistent
from tasks.validate import validator
from tests.golden.write import CASES, conversions, expected

NAMES = sorted(path.name for path in CASES.iterdir() if path.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_a_case_converts_as_expected(name: str) -> None:
    assert loads(expected(CASES / name)) == loads((CASES / name / "expected.json").read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_a_case_says_why_it_is_there(name: str) -> None:
    assert len((CASES / name / "why.md").read_text("utf-8").split()) > 5


@pytest.mark.parametrize("name", NAMES)
def test_every_resource_of_a_case_is_valid(name: str) -> None:
    check = validator("4.0.1").check
    said = [entry for conversion in conversions(CASES / name) for entry in conversion.entries]
    # cases with every field filled contradict themselves; what is left out then is what the pipeline leaves out
    entries = [consistent(entry, found)[0] if (found := check(entry.resource)) else entry for entry in said]
    assert entries
    assert [(e.resource["resourceType"], f) for e in entries for f in check(e.resource) if f.severity == "error"] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_of_a_case_resolves_in_its_bundle(name: str) -> None:
    for line in loads((CASES / name / "expected.json").read_bytes()):
        entries = line["bundle"]["entry"]
        urls = [entry["fullUrl"] for entry in entries]
        assert len(urls) == len(set(urls))
        assert {reference for entry in entries for reference in _references(entry["resource"])} <= set(urls)


def test_every_map_is_run_by_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = compile_maps(files("northside"))
    run: set[str] = set()
    plans: set[str] = set()
    space = next(iter(maps.calls.values())).__globals__
    for unit in maps.units:
        name = maps.calls[unit].__name__
        monkeypatch.setitem(space, name, _noting(maps.calls[unit], unit, run))
        monkeypatch.setitem(maps.calls, unit, space[name])
    for plan in maps.plans.values():
        for steps in plan.steps.values():
            for step in steps:
                if step.name:
                    monkeypatch.setattr(step, "call", maps.calls[step.name])
    plan_of = type(maps).plan

    def noting(self: Any, *names: str) -> Any:
        found = plan_of(self, *names)
        plans.add(found.name if found else "any")
        return found

    monkeypatch.setattr(type(maps), "plan", noting)
    for name in NAMES:
        conversions(CASES / name)
    assert sorted(set(maps.units) - run) == []
    assert sorted({plan.name for plan in maps.plans.values()} - plans) == []


def _noting(call: Callable[..., Any], name: str, run: set[str]) -> Callable[..., Any]:
    def noted(*args: Any, **more: Any) -> Any:
        run.add(name)
        return call(*args, **more)

    noted.__name__ = call.__name__
    return noted


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["reference"]} if isinstance(value.get("reference"), str) else set()
        return own.union(*(_references(part) for part in value.values())) if value else own
    if isinstance(value, list):
        return set().union(*(_references(part) for part in value)) if value else set()
    return set()


def test_the_folder_of_cases_is_where_it_is_looked_for() -> None:
    assert Path(CASES).is_dir()
    assert NAMES
