"""The official SQL on FHIR v2 tests, in both runners."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from infra.dev.scratch import scratch_postgres
from mappings.engine.views import View
from mappings.engine.views.conformance import Report, Runner, failures, in_memory, merge, run_suite
from tasks.publish.view_runner import rows_in_postgres


@pytest.fixture(scope="module")
def suite() -> Path:
    reference = os.environ.get("SLUICE_REFERENCE")
    if not reference:
        pytest.skip("SLUICE_REFERENCE is not set: the folder with sql-on-fhir-v2/tests")
    return Path(reference) / "sql-on-fhir-v2" / "tests"


@pytest.fixture(scope="module")
def in_postgres() -> Iterator[Runner]:
    with scratch_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
        yield lambda view, resources: rows_in_postgres(connection, view, resources)


def _failed(report: Report) -> list[tuple[str, str, str]]:
    return [
        (file, test["name"], test["result"]["reason"])
        for file, one in report.items()
        for test in one["tests"]
        if not test["result"]["passed"]
    ]


def test_every_official_test_passes_in_process(suite: Path) -> None:
    report = run_suite(suite, in_memory)
    assert _failed(report) == []
    assert sum(len(one["tests"]) for one in report.values()) >= 134


def test_every_official_test_passes_in_postgres(suite: Path, in_postgres: Runner) -> None:
    report = run_suite(suite, in_postgres)
    assert _failed(report) == []
    assert sum(len(one["tests"]) for one in report.values()) >= 134


def _nothing(_view: View, _resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def test_a_runner_that_gives_nothing_fails_and_so_does_a_report_merged_with_its(suite: Path) -> None:
    wrong = run_suite(suite, _nothing)
    assert failures(wrong) > 100
    assert failures(merge([run_suite(suite, in_memory), wrong])) == failures(wrong)
