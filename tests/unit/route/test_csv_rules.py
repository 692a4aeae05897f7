"""Conditions of a CSV feed: columns by their declared names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployments.feed_check import check_feed
from mappings.engine.model import Profile
from tasks import registry
from tasks.feed import Rule
from tasks.pipeline import Pipeline

MAPPING = """
file: {group: [order], nulls: [NULL]}
columns:
  order: {required: true}
  'Result Status': {aliases: [status]}
  ward: {}
resources:
  report:
    type: DiagnosticReport
    key: [$order]
    per: record
    elements: {status: final, code: {text: "$Result Status"}, conclusion: $ward}
"""
DATA = b"ward,order,status\nICU,1,F\nNULL,2,P\n A1 ,3,F\nA2,3,C\n"


def routed(folder: Path, *route: Rule) -> list[str]:
    path = folder / "m.yaml"
    path.write_text(MAPPING)
    pipeline = Pipeline(Profile("p", str(path), "UTC"), "csv", (*route, Rule(drop="no")))
    done = [pipeline.run(frame) for frame in pipeline.format.split([DATA])]
    return [one.decision.dropped or one.decision.to[0] for one in done]


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("'Result Status' = F", ["ehr", "no", "ehr"]),
        ('"Result Status" in P, C', ["no", "ehr", "ehr"]),
        ("ward = A1", ["no", "no", "ehr"]),
        ("ward valued", ["ehr", "no", "ehr"]),
        ("ward != ICU and 'Result Status' != P", ["no", "no", "ehr"]),
    ],
)
def test_a_condition_reads_a_column_of_any_row_of_a_record(tmp_path: Path, when: str, expected: list[str]) -> None:
    assert routed(tmp_path, Rule(when=when, to=("ehr",))) == expected


def test_a_sites_own_choice_gets_cells_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chooses(rows: Any) -> list[str] | None:
        return ["icu"] if rows[0]["ward"] == "ICU" else None

    known = registry.find
    monkeypatch.setattr(registry, "find", lambda group, name: chooses if group == "actions" else known(group, name))
    assert routed(tmp_path, Rule.model_construct(when=None, to=("icu",), call="by-ward")) == ["icu", "no", "no"]


def test_a_condition_on_what_is_no_column_is_told_with_file_line_and_nearest_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.yaml").write_text(MAPPING)
    text = f"source: {{kind: memory}}\nformat: csv\nmapping: {tmp_path / 'm.yaml'}\ntimezone: UTC\nroute:\n"
    text += "  - {when: wrad = ICU, drop: why}\n  - {when: MSH-9.1 = ORU, drop: why}\n"
    text += "  - {when: \"DiagnosticReport: status = 'final'\", drop: why}\n  - {to: [warehouse]}\n"
    (tmp_path / "some.feed.yaml").write_text(text)
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path))
    found = check_feed("some.feed")
    assert found[0] == "some.feed.yaml:6: `wrad` is not a column of the mapping (did you mean ward?)"
    assert found[1].startswith("some.feed.yaml:7: `MSH-9.1` is not a column of the mapping (one of Result Status,")
    assert found[2].startswith("some.feed.yaml:8: ")
    assert len(found) == 3
