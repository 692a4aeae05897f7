import io
import json
from datetime import date
from pathlib import Path

import pytest

from deployments.drafting.columns import look
from deployments.drafting.csv import GUESS
from deployments.drafting.write import draft
from infra.dev.partners import MARKER_NAME, MARKER_NUMBER, big_hl7, big_ndjson, generate
from mappings.engine.model import Profile
from tasks.convert.csv import CsvConverter
from tasks.errors import ConfigError
from tasks.feed import read
from tasks.parse.csv import CsvFormat
from tasks.pipeline import Pipeline
from tasks.validate import validator
from tests.unit.drafting.samples import SAMPLES

DAY = generate(1, date(2026, 11, 19))


def drafted(folder: Path, name: str, data: bytes, feed: str = "") -> dict[str, Path]:
    sample = folder / name
    sample.write_bytes(data)
    written = draft(sample, feed, folder / "out")
    return {"mapping" if "columns:" in path.read_text() else "feed": path for path in written}


def with_zone(path: Path) -> Path:
    path.write_text(path.read_text().replace("# timezone: <IANA name> is missing", "timezone: America/New_York #"))
    return path


@pytest.mark.parametrize("file", [DAY.eastlab[0], DAY.eastlab[-1]], ids=["results", "roster"])
def test_a_drafted_mapping_loads_and_converts_the_sample_validly(tmp_path, file):
    out = drafted(tmp_path, "sample.csv", file.data)
    profile = Profile("p", str(out["mapping"]), "America/New_York")
    form, converter = CsvFormat(profile), CsvConverter(profile)
    frames = list(form.split([file.data]))[:50]
    made = [converter.convert(form.parse(frame)) for frame in frames]
    assert all(conversion.entries for conversion in made)
    assert {finding.code for conversion in made for finding in conversion.findings} == set()
    resources = [entry.resource for conversion in made for entry in conversion.entries]
    assert all(validator("4.0.1").check(one) == () for one in resources)
    assert "Patient" in {one["resourceType"] for one in resources}


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", DAY.eastlab[0].data), ("b.csv", DAY.eastlab[-1].data), ("c.hl7", DAY.northside[2].data)],
)
def test_a_drafted_feed_lacks_the_zone_alone_and_no_file_holds_a_value(tmp_path, name, data):
    out = drafted(tmp_path, name, data, "north.lab")
    with pytest.raises(ConfigError, match="timezone") as caught:
        read(out["feed"])
    assert len(caught.value.problems) == 1
    assert read(with_zone(out["feed"])).partner == "north"
    for path in out.values():
        assert MARKER_NAME not in path.read_text()
        assert MARKER_NUMBER not in path.read_text()
        assert "100103" not in path.read_text()


def test_a_sample_of_messages_tells_structures_facilities_and_identifiers(tmp_path):
    stream = io.BytesIO()
    big_hl7(stream, 300)
    text = drafted(tmp_path, "sample.hl7", stream.getvalue())["feed"].read_text()
    assert "format: hl7v2" in text
    assert "patient: [MR@NORTHSIDE, PI@RIVERSIDE]" in text
    for word in ("ORU^R01 (", "ADT^A08 (", "2.5.1 (300)", "LISNMC/NMC (", "-0400 (", "UNICODE UTF-8 (300)"):
        assert word in text


def test_resources_are_counted_by_type_as_lines_and_as_a_bundle(tmp_path):
    stream = io.BytesIO()
    number = big_ndjson(stream, 20_000)
    out = drafted(tmp_path, "sample.ndjson", stream.getvalue())["feed"]
    assert f"Observation ({number})" in out.read_text()
    assert read(out).format == "fhir-ndjson"
    entries = [{"resource": json.loads(line)} for line in stream.getvalue().splitlines()[:3]]
    bundle = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}, indent=1)
    out = drafted(tmp_path, "bundle.json", bundle.encode())["feed"]
    assert "Observation (3)" in out.read_text()
    assert read(out).format == "fhir-bundle"


def test_nothing_is_overwritten(tmp_path):
    out = drafted(tmp_path, "sample.csv", b"id,name\n1,a\n2,b\n", "p.f")
    before = out["mapping"].read_text()
    out["feed"].unlink()
    with pytest.raises(ConfigError, match="is there already"):
        drafted(tmp_path, "sample.csv", b"other,names\n1,a\n2,b\n", "p.f")
    assert out["mapping"].read_text() == before
    assert not out["feed"].exists()


@pytest.mark.parametrize(
    ("data", "delimiter", "encoding", "header", "types"),
    [
        (b"id;born\n1;31.12.1999\n2;01.01.2000\n", "semicolon", "utf-8", True, ["integer", "date"]),
        ("id\tname\n1\té\n2\tb\n".encode("cp1252"), "tab", "cp1252", True, ["integer", "string"]),
        ("id|on\n1|Y\n2|N\n".encode("utf-16"), "pipe", "utf-16", True, ["integer", "boolean"]),
        (b"1,Doe,2020-01-01\n2,Roe,2020-01-02\n", "comma", "utf-8", False, ["integer", "string", "date"]),
        (b"Doe,Jane\nRoe,Mary\n", "comma", "utf-8", False, ["string", "string"]),
        (b"DOE,JANE\nROE,MARY\n", "comma", "utf-8", False, ["string", "string"]),
        (b"lastName,first_name\nROE,MARY\n", "comma", "utf-8", True, ["string", "string"]),
        (b"dose,code\n1.5,007\n2,008\n", "comma", "utf-8", True, ["decimal", "string"]),
        (b"at\n2026-01-02T03:04:05-05:00\n", "comma", "utf-8", True, ["datetime"]),
    ],
)
def test_the_look_of_a_file_is_guessed(data, delimiter, encoding, header, types):
    found = look(data)
    assert (found.delimiter, found.encoding, found.header) == (delimiter, encoding, header)
    assert [column.type for column in found.columns] == types


def test_a_date_that_can_be_read_in_two_ways_says_so(tmp_path):
    text = drafted(tmp_path, "s.csv", b"id,born\n1,02/03/2020\n2,04/05/2020\n")["mapping"].read_text()
    assert 'format: "%m/%d/%Y"' in text
    assert "fits %d/%m/%Y as well" in text


@pytest.mark.parametrize(("name", "said"), [("", "folder"), ("none.csv", "cannot be read"), ("empty.csv", "is empty")])
def test_a_sample_that_cannot_be_read_says_why(tmp_path, name, said):
    (tmp_path / "empty.csv").write_bytes(b"\n")
    with pytest.raises(ConfigError, match=said):
        draft(tmp_path / name, "p.f", tmp_path / "out")


def test_a_name_that_is_no_feeds_name_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"<partner>\.<feed>"):
        drafted(tmp_path, "s.csv", b"id,name\n1,a\n", "Lab Results")


def test_a_patients_second_result_of_a_test_is_not_the_first_ones_correction(tmp_path):
    data = b"PatientID,LastName,TestCode,Result,CollectedAt\n1,Doe,GLU,5.1,2026-03-01 08:15\n"
    data += b"2,Roe,GLU,6,2026-03-01 09:00\n"
    out = drafted(tmp_path, "sample.csv", data)
    profile = Profile("p", str(out["mapping"]), "America/New_York")
    form, converter = CsvFormat(profile), CsvConverter(profile)
    later = data + b"1,Doe,GLU,4.9,2026-03-02 08:15\n"
    made = [entry.resource for frame in form.split([later]) for entry in converter.convert(form.parse(frame)).entries]
    assert len({one["id"] for one in made if one["resourceType"] == "Observation"}) == 3


WANTED = {
    "labs": {"Patient", "Observation"},
    "befunde": {"Patient", "Observation"},
    "encounters": {"Patient", "Encounter"},
    "aufenthalte": {"Patient", "Encounter"},
    "immunizations": {"Patient", "Immunization"},
    "medications": {"Patient", "MedicationRequest"},
    "no_header": {"Basic"},
    "trailer": {"Observation"},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_draft_passes_the_check_and_converts_its_own_sample_without_a_mistake(tmp_path, name, monkeypatch):
    sample = tmp_path / "sample.csv"
    sample.write_bytes(SAMPLES[name])
    mapping, feed = draft(sample, "north.rows", tmp_path / "out", "Europe/Berlin")
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "out"))
    assert read(feed).name == "north.rows"
    profile = read(feed).profile
    pipeline = Pipeline(profile, "csv")
    done = [pipeline.run(frame) for frame in pipeline.format.split([SAMPLES[name]])]
    assert [finding for one in done for finding in one.conversion.findings] == []
    made = [entry.resource for one in done for entry in one.conversion.entries]
    assert {one["resourceType"] for one in made} == WANTED.get(name, {"Patient"})
    assert GUESS in mapping.read_text()


def made_of(folder, name):
    sample = folder / "sample.csv"
    sample.write_bytes(SAMPLES[name])
    mapping, _ = draft(sample, "north.rows", folder / "out", "Europe/Berlin")
    pipeline = Pipeline(Profile("p", str(mapping), "Europe/Berlin"), "csv")
    done = [pipeline.run(frame) for frame in pipeline.format.split([SAMPLES[name]])]
    return [[entry.resource for entry in one.conversion.entries] for one in done]


def test_a_status_column_is_read_as_its_words_mean_for_what_the_rows_are(tmp_path):
    for name, wanted in {
        "labs": ["final", "final", "corrected", "preliminary"],
        "encounters": ["finished", "arrived", "planned"],
        "immunizations": ["completed", "not-done", "completed"],
        "medications": ["active", "completed"],
    }.items():
        (tmp_path / name).mkdir()
        assert [row[-1]["status"] for row in made_of(tmp_path / name, name)] == wanted


def test_a_decimal_comma_becomes_a_number_with_its_digits(tmp_path):
    values = [row[-1]["valueQuantity"]["value"] for row in made_of(tmp_path, "befunde")]
    assert [str(value) for value in values] == ["5.4", "14.1", "0.93"]


def test_names_of_another_language_are_understood(tmp_path):
    (first,), _ = made_of(tmp_path, "patienten")
    assert first["name"] == [{"family": "M\u00fcller", "given": ["J\u00fcrgen"]}]
    assert (first["birthDate"], first["gender"]) == ("1960-12-31", "male")
    assert first["address"][0]["postalCode"] == "01067"


def test_a_code_that_is_no_known_word_is_never_written_into_a_draft(tmp_path):
    data = b"PatientID,TestCode,Result,Status,Sex\n1,GLU,5,Zzyzx,Quux\n2,GLU,6,F,M\n"
    text = drafted(tmp_path, "s.csv", data)["mapping"].read_text()
    assert "Zzyzx" not in text
    assert "Quux" not in text


def test_resources_printed_over_lines_are_a_sample_too_and_tell_their_version(tmp_path):
    one = {"resourceType": "Encounter", "id": "e", "status": "completed", "class": [{"text": "x"}]}
    text = drafted(tmp_path, "one.json", json.dumps(one, indent=2).encode())["feed"].read_text()
    assert "format: fhir-ndjson" in text
    assert "fhir_version: 5.0.0" in text
    assert "Encounter (1)" in text
