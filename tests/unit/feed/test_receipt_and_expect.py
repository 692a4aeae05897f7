"""What a feed file may not say about receipts and expectations, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import ConfigError
from tasks.feed import read

SOURCE = 'source: {kind: directory, connection: drop, path: /out, match: "*.hl7*"}\n'
REST = "format: hl7v2\ntimezone: America/New_York\n"


def problem(folder: Path, text: str) -> str:
    path = folder / "some.feed.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read(path)
    return error.value.problems[0]


@pytest.mark.parametrize("path", ["/out", "out/", "/out/"])
def test_receipts_do_not_go_where_the_source_looks_for_deliveries(tmp_path: Path, path: str) -> None:
    said = problem(tmp_path, SOURCE + REST + f"receipt: {{path: {path}}}\n")
    assert said.startswith("some.feed.yaml:4: `receipt.path`: the source reads there")


def test_nor_into_its_subfolders_where_it_looks_into_them(tmp_path: Path) -> None:
    deep = SOURCE.replace("*.hl7*", "**/*.hl7*")
    assert "the source reads there" in problem(tmp_path, deep + REST + "receipt: {path: /out/receipts}\n")


def test_a_source_that_takes_no_files_takes_no_receipts(tmp_path: Path) -> None:
    text = "source: {kind: fhir-bulk, connection: county}\nformat: fhir-ndjson\nreceipt: {path: /in}\n"
    assert problem(tmp_path, text).startswith("some.feed.yaml:3: `receipt:` needs a source that takes files")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("by: 25:00", "by"),
        ("by: '06:00', holidays: XX", "XX is no ISO 3166 code"),
        ("by: '06:00', holidays: US-NX", "NX is not a part of US"),
        ("by: '06:00', records: [5, 1]", "[least, most]"),
        ("by: '06:00', on: weekday", "weekdays"),
    ],
)
def test_an_expectation_that_cannot_be_held_is_a_mistake_on_its_line(tmp_path: Path, said: str, why: str) -> None:
    text = problem(tmp_path, SOURCE + REST + f"expect: {{{said}}}\n")
    assert text.startswith("some.feed.yaml:4: ")
    assert why in text


def test_a_time_of_day_needs_a_zone(tmp_path: Path) -> None:
    text = "source: {kind: memory}\nformat: fhir-ndjson\nexpect: {by: '06:00'}\n"
    assert "`timezone:` is missing" in problem(tmp_path, text)


def test_good_ones_are_read(tmp_path: Path) -> None:
    path = tmp_path / "some.feed.yaml"
    said = "receipt: {path: /in/receipts}\nexpect: {by: '06:00', on: weekdays, holidays: US-NY, records: [1, 9]}\n"
    path.write_text(SOURCE + REST + said)
    feed = read(path)
    assert feed.receipt
    assert feed.receipt.path == "/in/receipts"
    assert feed.expect
    assert (feed.expect.holidays, feed.expect.records) == ("US-NY", (1, 9))
