"""`sluice views run` and `sluice views conformance`, as a person types them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.main import main

PATIENTS = [
    {"resourceType": "Patient", "id": "ada", "name": [{"family": "Ek"}, {"family": "Ny"}]},
    {"resourceType": "Group", "id": "g"},
    {"resourceType": "Patient", "id": "bo"},
]


def view(path: str) -> dict[str, Any]:
    columns = [{"name": "id", "path": "id"}, {"name": "family", "path": path}]
    return {"resourceType": "ViewDefinition", "resource": "Patient", "select": [{"column": columns}]}


@pytest.fixture
def sluice(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Any:
    def run(*words: object, stdin: bytes = b"") -> tuple[int, list[Any], str]:
        monkeypatch.setattr(sys, "argv", ["sluice", "views", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = capfdbinary.readouterr()
        return int(exit_.value.code or 0), [json.loads(line) for line in out.splitlines()], err.decode()

    return run


@pytest.fixture
def files(tmp_path: Path) -> Path:
    lines = "".join(json.dumps(patient) + "\n\n" for patient in PATIENTS)
    (tmp_path / "lines.ndjson").write_text("\ufeff" + lines)
    (tmp_path / "bundle.json").write_text(
        json.dumps({"resourceType": "Bundle", "entry": [{"resource": one} for one in PATIENTS]}, indent=2)
    )
    (tmp_path / "view.txt").write_text(json.dumps(view("name.family.first()")))
    return tmp_path


ROWS = [{"id": "ada", "family": "Ek"}, {"id": "bo", "family": None}]


def test_lines_a_bundle_a_folder_and_standard_input_give_the_same_rows(sluice: Any, files: Path) -> None:
    lines = files / "lines.ndjson"
    assert sluice("run", files / "view.txt", lines) == (0, ROWS, "")
    assert sluice("run", files / "view.txt", files / "bundle.json") == (0, ROWS, "")
    assert sluice("run", files / "view.txt", "-", stdin=lines.read_bytes()) == (0, ROWS, "")
    assert sluice("run", files / "view.txt", files) == (0, ROWS + ROWS, "")


def test_a_view_of_the_warehouse_is_known_by_its_name(sluice: Any, files: Path) -> None:
    code, rows, _ = sluice("run", "patient", files / "lines.ndjson")
    assert (code, [row["family"] for row in rows]) == (0, ["Ek", None])


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (json.dumps(view("name.where(")), "select[0].column[1].path: not a FHIRPath expression"),
        (json.dumps({"resource": "Patient"}), "select: a view needs at least one select"),
        ("{", "not a JSON text"),
    ],
)
def test_an_invalid_view_is_one_line_with_place_and_reason_and_exit_code_1(
    sluice: Any, files: Path, text: str, place: str
) -> None:
    (files / "bad.txt").write_text(text)
    code, rows, err = sluice("run", files / "bad.txt", files / "lines.ndjson")
    assert (code, rows, err.count("\n")) == (1, [], 1)
    assert err.startswith(f"sluice: {files / 'bad.txt'}: {place}")


def test_a_resource_that_does_not_fit_ends_the_rows_with_exit_code_1_and_without_its_values(
    sluice: Any, files: Path
) -> None:
    (files / "many.txt").write_text(json.dumps(view("name.family")))
    code, rows, err = sluice("run", files / "many.txt", files / "lines.ndjson")
    assert (code, rows) == (1, [])
    assert "column 'family': path 'name.family' gives more than one item" in err
    assert "Ek" not in err


def test_an_element_that_fhir_does_not_have_is_told_on_standard_error(sluice: Any, files: Path) -> None:
    (files / "typo.txt").write_text(json.dumps(view("nmae.family")))
    code, rows, err = sluice("run", files / "typo.txt", files / "lines.ndjson")
    assert (code, len(rows)) == (0, 2)
    assert "select[0].column[1].path: FHIR R4's Patient has no nmae" in err


def test_input_that_cannot_be_read_is_named_with_its_line(sluice: Any, files: Path) -> None:
    (files / "torn.ndjson").write_text(json.dumps(PATIENTS[0]) + '\n{"resourceType": "Patient", "id": "secret')
    code, rows, err = sluice("run", files / "view.txt", files / "torn.ndjson")
    assert (code, rows) == (1, ROWS[:1])
    assert "torn.ndjson, line 2: not a JSON text" in err
    assert "secret" not in err
    (files / "list.json").write_text("[1]")
    assert sluice("run", files / "view.txt", files / "list.json")[0] == 1


def test_what_a_bundles_entries_refer_to_is_found_by_its_key(sluice: Any, files: Path) -> None:
    encounter = {"resourceType": "Encounter", "id": "e", "subject": {"reference": "urn:uuid:1"}, "participant": []}
    patient = {"fullUrl": "urn:uuid:1", "resource": PATIENTS[0]}
    bundle = {"resourceType": "Bundle", "entry": [{"fullUrl": "urn:uuid:2", "resource": encounter}, patient]}
    lines = [{"source": "x", "index": 1, "bundle": bundle}, {"source": "x", "index": 2, "bundle": None}]
    code, rows, _ = sluice("run", "encounter", "-", stdin="\n".join(map(json.dumps, lines)).encode())
    assert (code, [(row["id"], row["patient_id"]) for row in rows]) == (0, [("e", "ada")])


def test_misuse_is_exit_code_2(sluice: Any, files: Path) -> None:
    assert sluice("run", "no_such_view", files / "lines.ndjson")[0] == 2
    assert sluice("run", files / "view.txt", files / "nothing.ndjson")[0] == 2
    assert sluice("conformance", files / "nothing", "--runner", "memory")[0] == 2


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    tests = [
        {"title": "fits", "view": view("name.family.first()"), "expect": list(reversed(ROWS))},
        {"title": "refuses", "view": view("name.where("), "expectError": True},
        {"title": "counts", "view": view("name.family.first()"), "expectCount": 2, "expectColumns": ["id", "family"]},
    ]
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "good.json").write_text(json.dumps({"title": "t", "resources": PATIENTS, "tests": tests}))
    (folder / "schema.json").write_text("{}")
    return folder


GOOD = [{"name": name, "result": {"passed": True}} for name in ("fits", "refuses", "counts")]


def test_the_report_has_the_suites_own_format(sluice: Any, suite: Path) -> None:
    assert sluice("conformance", suite) == (0, [{"good.json": {"tests": GOOD}}], "")
    assert sluice("conformance", suite, "--runner", "postgres", "--json")[:2] == (0, [{"good.json": {"tests": GOOD}}])


def test_a_test_that_fails_is_in_the_report_with_its_reason_and_the_exit_code_is_1(sluice: Any, suite: Path) -> None:
    wrong = [
        {"title": "other rows", "view": view("name.family.first()"), "expect": ROWS[:1]},
        {"title": "no error", "view": view("name.family.first()"), "expectError": True},
        {"title": "an error", "view": view("name.where("), "expect": []},
    ]
    (suite / "wrong.json").write_text(json.dumps({"title": "t", "resources": PATIENTS, "tests": wrong}))
    out = suite.parent / "report.out"
    code, printed, _ = sluice("conformance", suite, "--runner", "memory", "--json", "--out", out)
    report = json.loads(out.read_text())
    assert (code, printed) == (1, [report])
    assert report["good.json"] == {"tests": GOOD}
    assert [test["result"]["passed"] for test in report["wrong.json"]["tests"]] == [False, False, False]
    assert report["wrong.json"]["tests"][1]["result"]["reason"] == "an error was expected"
