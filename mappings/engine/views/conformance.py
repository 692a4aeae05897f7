"""The SQL on FHIR v2 test files, run by any runner, with a report in the suite's own format.

Source: https://sql-on-fhir.org, `tests.schema.json` and the format of test reports:
`{"file.json": {"tests": [{"name": …, "result": {"passed": true}}]}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from mappings.engine.json import loads
from mappings.engine.views.errors import ViewError
from mappings.engine.views.view import View, compile_view

Runner = Callable[[View, list[dict[str, Any]]], list[dict[str, Any]]]
"""Gives a view's rows over resources; raises `ViewError` where they do not fit it."""

Report = dict[str, dict[str, list[dict[str, Any]]]]


def in_memory(view: View, resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a view in process."""
    return list(view.rows(resources))


def run_suite(folder: Path, runner: Runner) -> Report:
    """Return the report on every test file of `folder`; raises `ValueError` where there is none."""
    report: Report = {}
    for path in sorted(folder.glob("*.json")):
        suite = loads(path.read_bytes())
        if isinstance(suite, dict) and isinstance(suite.get("tests"), list):
            report[path.name] = {
                "tests": [_report(test, suite.get("resources", []), runner) for test in suite["tests"]]
            }
    if not report:
        raise ValueError(f"{folder} holds no SQL on FHIR test file")
    return report


def merge(reports: Sequence[Report]) -> Report:
    """Return one report of several runners': a test passes where it passes in all."""
    merged: Report = {}
    for file in reports[0]:
        results = zip(*(report[file]["tests"] for report in reports), strict=True)
        merged[file] = {
            "tests": [next((one for one in same if not one["result"]["passed"]), same[0]) for same in results]
        }
    return merged


def failures(report: Report) -> int:
    """Return how many tests of a report did not pass."""
    return sum(not test["result"]["passed"] for suite in report.values() for test in suite["tests"])


def _report(test: dict[str, Any], resources: list[dict[str, Any]], runner: Runner) -> dict[str, Any]:
    reason = _judge(test, resources, runner)
    result = {"passed": True} if reason is None else {"passed": False, "reason": reason}
    return {"name": test["title"], "result": result}


def _judge(test: dict[str, Any], resources: list[dict[str, Any]], runner: Runner) -> str | None:
    try:
        view = compile_view(test["view"])
        rows = runner(view, resources)
    except ViewError as error:
        return None if test.get("expectError") else str(error)
    if test.get("expectError"):
        return "an error was expected"
    if "expectCount" in test and len(rows) != test["expectCount"]:
        return f"{test['expectCount']} rows were expected, not {len(rows)}"
    names = [column.name for column in view.columns]
    if "expectColumns" in test and names != test["expectColumns"]:
        return f"columns {test['expectColumns']} were expected, not {names}"
    if "expect" in test and _canonical(rows) != _canonical(test["expect"]):
        return f"other rows were expected ({len(test['expect'])} expected, {len(rows)} found)"
    return None


def _canonical(rows: list[dict[str, Any]]) -> list[str]:
    """Return rows in a form in which equal sets of rows are equal: order and a number's digits say nothing."""
    return sorted(repr(_plain(row)) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _plain(one)) for key, one in value.items())
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return ("number", Decimal(str(value)).normalize())
    return value
