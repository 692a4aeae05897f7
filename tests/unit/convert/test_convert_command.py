"""`sluice convert`: what it prints and how it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.cli.convert import guess
from mappings.engine.json import loads
from mappings.engine.model import Profile
from tasks.errors import ConfigError
from tasks.pipeline import Pipeline

CASES = Path(__file__).parents[2] / "golden" / "v2"


def sluice(*arguments: str, given: bytes = b"", **environment: str) -> tuple[int, list[Any], str]:
    script = "import sys; from deployments.cli.main import main; sys.argv[0] = 'sluice'; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, "convert", *arguments],
        input=given,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TZ": "Asia/Tokyo", **environment},
        cwd=Path(__file__).parents[3],
    )
    return done.returncode, [loads(line) for line in done.stdout.splitlines()], done.stderr.decode()


def test_a_line_a_record_with_source_index_bundle_and_findings() -> None:
    path = str(CASES / "adt-a01-a03-one-visit" / "input.hl7")
    code, lines, said = sluice("--partner", "northside", "--timezone", "America/New_York", path)
    assert (code, said) == (0, "")
    assert [(line["source"], line["index"]) for line in lines] == [(path, 1), (path, 2)]
    assert all(set(line) == {"source", "index", "bundle", "findings"} for line in lines)
    assert lines[0]["bundle"]["entry"][0]["resource"]["resourceType"] == "MessageHeader"
    cleared = [e["extension"] for e in lines[1]["bundle"]["entry"] if "extension" in e]
    assert [{"url": "urn:sluice:cleared", "valueString": "Patient.name"}] in cleared


def test_a_record_that_cannot_be_converted_has_no_bundle_and_ends_with_1() -> None:
    good = (CASES / "adt-a40-merge" / "input.hl7").read_bytes()
    code, lines, _ = sluice("-", given=b"MSH|^~\\&|A\r" + good)
    assert code == 1
    assert [line["bundle"] is None for line in lines] == [True, False]
    assert [finding["severity"] for finding in lines[0]["findings"]] == ["error"]


def test_of_a_folder_every_file_is_read_and_what_is_no_message_named_and_left_out(tmp_path: Path) -> None:
    below = tmp_path / "in" / "deep"
    below.mkdir(parents=True)
    (below / "b.hl7").write_bytes((CASES / "adt-a40-merge" / "input.hl7").read_bytes())
    (tmp_path / "a.json").write_text('{"resourceType": "Patient",\n "id": "p"}')
    (tmp_path / "LICENSE").write_text("Some words, not a message.\n")
    (tmp_path / ".hidden").write_text("MSH|nothing")
    code, lines, said = sluice("--timezone", "America/New_York", str(tmp_path))
    assert code == 0
    assert {line["source"] for line in lines} == {str(tmp_path / "a.json"), str(below / "b.hl7")}
    (told,) = said.splitlines()
    assert told.startswith(f"{tmp_path / 'LICENSE'}: left out")


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("MSH|nothing")
    code, lines, said = sluice(str(tmp_path))
    assert (code, lines) == (2, [])
    assert f"{tmp_path}: no file is in this folder" in said


@pytest.mark.parametrize("arguments", [["/no/such/file"], ["--timezone", "Nowhere", "-"], []])
def test_misuse_is_one_line_and_2(arguments: list[str]) -> None:
    code, lines, said = sluice(*arguments, given=b"MSH|^~\\&|A|||||||||P|2.5\r")
    assert (code, lines) == (2, [])
    assert len(said.strip().splitlines()) == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"MSH|^~\\&|", "hl7v2"),
        (b"\x0bMSH|^~\\&|", "hl7v2"),
        (b"\xef\xbb\xbfFHS|^~\\&|", "hl7v2"),
        (b'{"resourceType":"Patient"}\n{"resourceType":"Patient"}', "fhir-ndjson"),
        (b'{\n "resourceType": "Bundle",', "fhir-bundle"),
        (b'{"resourceType":"Bundle","entry":[]}', "fhir-bundle"),
        (b"id,name\n1,x\n", "csv"),
    ],
)
def test_the_format_is_seen_from_the_content(head: bytes, expected: str) -> None:
    assert guess(head) == expected


def test_each_version_of_fhir_is_held_to_its_own_definitions() -> None:
    given = b'{"resourceType":"Encounter","id":"a","status":"completed"}\n'
    given += b'{"resourceType":"Encounter","id":"b","status":"finished","class":{"code":"AMB"}}\n'
    _, r5, _ = sluice("--fhir-version", "5.0.0", "-", given=given)
    _, r4, _ = sluice("-", given=given)
    assert [bool(line["bundle"]) for line in r5] == [True, False]
    assert [bool(line["bundle"]) for line in r4] == [False, True]


def test_hl7_v2_as_another_version_than_its_maps_make_is_told_before_a_message_is_read() -> None:
    with pytest.raises(ConfigError, match=r"becomes FHIR 4\.0\.1, not 5\.0\.0"):
        Pipeline(Profile("p", timezone="UTC", fhir_version="5.0.0"), "hl7v2")


def test_a_withdrawn_thing_is_not_printed_as_one_that_stands() -> None:
    entries = b'{"request": {"method": "DELETE", "url": "Patient/7"}},{"resource":{"resourceType":"Patient","id":"8"}}'
    given = b'{"resourceType": "Bundle", "type": "transaction", "entry": [' + entries + b"]}"
    _, lines, _ = sluice("--format", "fhir-bundle", "-", given=given)
    marks = [line["bundle"]["entry"][0].get("extension") for line in lines]
    assert marks == [[{"url": "urn:sluice:deleted", "valueBoolean": True}], None]
