from decimal import Decimal
from pathlib import Path

import pytest

from mappings.engine.csv_functions import UCUM, lab_value_comma
from mappings.engine.csv_types import BAD, decimal, grouped
from mappings.engine.model import Profile
from mappings.engine.slots import assemble
from tasks.convert.csv import CsvConverter
from tasks.convert.hl7v2 import Hl7v2Converter
from tasks.errors import ConfigError
from tasks.model import Conversion, Frame, Parsed, Position
from tasks.parse.hl7v2 import Hl7v2Format
from tasks.validate import validator

COLUMNS = """
columns:
  id: {required: true}
  family: {}
  given: {}
  born: {type: date, format: ["%d.%m.%Y", "%Y"]}
  sex: {type: code, table: AdministrativeSex}
  phone: {empty: clear}
  active: {type: boolean, true_words: ["Y"], false_words: ["N"]}
resources:
  patient:
    type: Patient
    key: [$id]
    living: true
    elements:
      identifier: [{system: urn:x, value: $id}]
      name: [{use: official, family: $family, given: [$given]}]
      birthDate: $born
      gender: $sex
      telecom: [{system: phone, value: $phone}]
      active: $active
"""
RESULTS = """
file: {group: [order]}
event_time: $at
columns:
  order: {required: true}
  patient: {required: true}
  test: {required: true}
  value: {}
  unit: {}
  low: {type: decimal, point: ","}
  high: {type: decimal, point: ","}
  count: {type: integer}
  at: {type: datetime, format: ["%d/%m/%y %I:%M %p", "%Y-%m-%dT%H:%M:%S%z"], pivot: 40}
  note: {}
resources:
  patient:
    type: Patient
    key: [$patient]
    per: record
    living: true
    elements: {identifier: [{value: $patient}]}
  report:
    type: DiagnosticReport
    key: [$order]
    per: record
    elements:
      status: final
      code: {text: Panel}
      subject: {ref: patient}
      result: [{ref: result, each: row}]
      conclusion: "{order} of {patient}"
  result:
    type: Observation
    key: [$order, $test]
    when: NOT value EQUALS "-"
    elements:
      status: final
      code: {text: $test}
      subject: {ref: patient}
      value[x]: {call: lab-value, with: [$value, $unit]}
      referenceRange: [{low: {value: $low!, unit: $unit}, high: {value: $high!}, text: "{low} to {high}"}]
      component: [{code: {text: count}, valueInteger: $count!}]
      note: [{text: $note}]
"""


def converter(folder: Path, text: str = COLUMNS, **more: object) -> CsvConverter:
    path = folder / "m.yaml"
    path.write_text(text)
    return CsvConverter(Profile("p", str(path), "America/New_York", **more))


def convert(made: CsvConverter, *rows: list[str]) -> Conversion:
    return made.convert(Parsed(Frame(1, "line 2", b"", Position()), [list(row) for row in rows]))


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        converter(folder, text)
    return list(caught.value.problems)


def test_a_row_becomes_a_living_thing_with_a_slot_for_what_its_columns_say(tmp_path):
    entry = convert(converter(tmp_path), ["7", "Núñez", "Ana", "05.02.1980", "F", "555", "Y"]).entries[0]
    assert entry.resource | {"id": ""} == {
        "resourceType": "Patient",
        "id": "",
        "identifier": [{"system": "urn:x", "value": "7"}],
        "name": [{"use": "official", "family": "Núñez", "given": ["Ana"]}],
        "birthDate": "1980-02-05",
        "gender": "female",
        "telecom": [{"system": "phone", "value": "555"}],
        "active": True,
    }
    assert set(entry.slots) == {"id", "family+given", "born", "sex", "phone", "active"}
    assert entry.resource == assemble("Patient", entry.resource["id"], entry.slots)
    assert validator("4.0.1").check(entry.resource) == ()


def test_an_empty_cell_says_nothing_and_one_that_clears_takes_back(tmp_path):
    entry = convert(converter(tmp_path), ["7", "", " ", "", "", "", ""]).entries[0]
    assert entry.slots == {"id": [("identifier", [{"system": "urn:x", "value": "7"}])], "phone": []}
    assert entry.cleared == ("Patient.telecom",)
    assert set(entry.resource) == {"resourceType", "id", "identifier"}


def test_the_same_row_gives_the_same_id_and_another_partner_another(tmp_path):
    row = ["7", "A", "", "", "", "", ""]
    first, again = convert(converter(tmp_path), row), convert(converter(tmp_path), row)
    assert first.entries == again.entries
    path = tmp_path / "m.yaml"
    other = convert(CsvConverter(Profile("q", str(path), "UTC")), row)
    assert other.entries[0].resource["id"] != first.entries[0].resource["id"]


def test_an_authority_that_is_shared_leaves_the_partner_out_of_the_id(tmp_path):
    text = COLUMNS.replace("key: [$id]", "key: [$id]\n    authority: STATE")
    row = ["7", "A", "", "", "", "", ""]
    path = tmp_path / "m.yaml"
    path.write_text(text)
    ids = {
        (partner, shared): convert(CsvConverter(Profile(partner, str(path), "UTC", shared_authorities=shared)), row)
        .entries[0]
        .resource["id"]
        for partner in ("p", "q")
        for shared in ((), ("STATE",))
    }
    assert ids["p", ("STATE",)] == ids["q", ("STATE",)]
    assert len(set(ids.values())) == 3


@pytest.mark.parametrize("authority", ["NORTHSIDE", "2.16.840.1.113883.19.4.6"])
def test_a_row_and_a_message_of_one_partner_name_the_same_patient(tmp_path, authority):
    row = ["100482", "Doe", "", "", "", "", ""]
    text = COLUMNS.replace("key: [$id]", f"key: [$id]\n    authority: {authority}")
    from_row = convert(converter(tmp_path, text), row).entries[0].resource["id"]
    profile = Profile("p", "v2", "America/New_York", patient=("MR",))
    form = Hl7v2Format(profile)
    space = f"&{authority}&ISO" if "." in authority else authority
    message = (
        "MSH|^~\\&|A|B|C|D|20260101120000||ADT^A04^ADT_A01|1|P|2.5.1\rEVN|A04|20260101120000\r"
        f"PID|1||100482^^^{space}^MR||Doe\rPV1|1|O\r"
    )
    parsed = form.parse(next(iter(form.split([message.encode()]))))
    entries = Hl7v2Converter(profile).convert(parsed).entries
    assert from_row in {one.resource["id"] for one in entries if one.resource["resourceType"] == "Patient"}


@pytest.mark.parametrize(
    ("row", "code", "at"),
    [
        (["", "A", "", "", "", "", ""], "missing-value", "id"),
        (["7", "A", "", "30.02.1980", "", "", ""], "not-a-date", "born"),
        (["7", "A", "", "1980-02-01", "", "", ""], "not-a-date", "born"),
        (["7", "A", "", "", "", "", "maybe"], "not-a-boolean", "active"),
    ],
)
def test_a_cell_that_cannot_be_leaves_the_record_without_entries(tmp_path, row, code, at):
    made = convert(converter(tmp_path), row)
    assert made.entries == []
    assert [(finding.code, finding.location, finding.severity) for finding in made.findings] == [(code, at, "error")]


def test_a_code_that_its_table_lacks_is_counted_and_listed(tmp_path):
    made = convert(converter(tmp_path), ["7", "A", "", "1980", "Q", "", ""])
    assert [(finding.code, finding.location, finding.severity) for finding in made.findings] == [
        ("unmapped-code", "sex", "warning")
    ]
    assert [(one.table, one.code, one.location) for one in made.unmapped] == [("AdministrativeSex", "Q", "sex")]
    assert made.entries[0].resource["birthDate"] == "1980"
    assert "gender" not in made.entries[0].resource


def test_rows_that_belong_together_make_one_report_of_all_results(tmp_path):
    made = convert(
        converter(tmp_path, RESULTS),
        ["o1", "7", "Na", "5.10", "mmol/L", "1,50", "9,0", "3", "05/02/26 1:30 PM", ""],
        ["o1", "7", "K", "<0.5", "", "", "9,0", "", "2026-02-05T14:00:00-05:00", "x"],
        ["o1", "7", "C", "hemolyzed", "", "", "", "", "", ""],
        ["o1", "7", "D", "-", "", "", "", "", "", ""],
    )
    kinds = [entry.resource["resourceType"] for entry in made.entries]
    assert kinds == ["Patient", "DiagnosticReport", "Observation", "Observation", "Observation"]
    patient, report, first, second, third = (entry.resource for entry in made.entries)
    assert report["result"] == [{"reference": f"Observation/{one['id']}"} for one in (first, second, third)]
    assert report["conclusion"] == "o1 of 7"
    assert {one["subject"]["reference"] for one in (report, first, second)} == {f"Patient/{patient['id']}"}
    assert str(first["valueQuantity"]["value"]) == "5.10"
    assert first["referenceRange"] == [
        {"low": {"value": Decimal("1.50"), "unit": "mmol/L"}, "high": {"value": Decimal("9.0")}, "text": "1.50 to 9.0"}
    ]
    assert first["component"] == [{"code": {"text": "count"}, "valueInteger": 3}]
    assert second["valueQuantity"] == {"value": Decimal("0.5"), "comparator": "<"}
    assert second["referenceRange"] == [{"high": {"value": Decimal("9.0")}}]
    assert second["note"] == [{"text": "x"}]
    assert third["valueString"] == "hemolyzed"
    assert "component" not in third
    assert made.event_time == "2026-02-05T14:00:00-05:00"
    assert [validator("4.0.1").check(entry.resource) for entry in made.entries] == [()] * 5


def test_a_bad_cell_in_one_row_holds_the_whole_record(tmp_path):
    good = ["o1", "7", "Na", "1", "", "", "", "", "", ""]
    made = convert(converter(tmp_path, RESULTS), good, [*good[:7], "1.5", "", ""])
    assert made.entries == []
    assert [(finding.code, finding.location) for finding in made.findings] == [("not-an-integer", "count")]


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("2026-11-01T00:30:00", "2026-11-01T00:30:00-04:00"),
        ("2026-11-01T03:30:00", "2026-11-01T03:30:00-05:00"),
        ("2026-03-08T12:00:00", "2026-03-08T12:00:00-04:00"),
        ("2026-01-02T03:04:05.678+01:00", "2026-01-02T03:04:05.678+01:00"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02", "2026-01-02"),
        ("2026-01", "2026-01"),
    ],
)
def test_a_time_carries_its_own_offset_or_that_of_the_feeds_zone(tmp_path, cell, wanted):
    text = """
columns:
  id: {required: true}
  at: {type: datetime}
resources:
  patient: {type: Patient, key: [$id], elements: {deceasedDateTime: $at}}
"""
    assert convert(converter(tmp_path, text), ["1", cell]).entries[0].resource["deceasedDateTime"] == wanted


def test_declared_words_for_nothing_say_nothing(tmp_path):
    made = converter(tmp_path, "file: {nulls: [NULL, n/a]}\n" + COLUMNS)
    entry = convert(made, ["7", "NULL", "n/a", "NULL", "NULL", "5", "NULL"]).entries[0]
    assert set(entry.resource) == {"resourceType", "id", "identifier", "telecom"}


def test_a_slot_can_be_named_and_hold_only_while_nobody_else_says_anything(tmp_path):
    text = COLUMNS.replace("{use: official,", "{slot: ~orders, use: official,")
    assert "~orders" in convert(converter(tmp_path, text), ["7", "A", "B", "", "", "", ""]).entries[0].slots


def test_an_original_code_without_a_table_entry_is_kept_as_a_concept(tmp_path):
    text = """
columns:
  id: {required: true}
  flag: {type: code, table: InterpretationCodes}
resources:
  result:
    type: Observation
    key: [$id]
    elements: {status: final, code: {text: x}, interpretation: [$flag.concept]}
"""
    made = converter(tmp_path, text)
    known = convert(made, ["1", "H"]).entries[0].resource["interpretation"]
    assert known[0]["coding"][0]["code"] == "H"
    assert known[0]["coding"][0]["system"].startswith("http://terminology.hl7.org/")
    unknown = convert(made, ["1", "weird"])
    assert unknown.entries[0].resource["interpretation"] == [{"coding": [{"code": "weird"}], "text": "weird"}]


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("{type: date, format:", "{type: dte, format:", 6, "did you mean date"),
        ("born: {type: date,", "born: {typ: date,", 6, "did you mean type"),
        ('"%d.%m.%Y"', '"%d.%k.%Y"', 6, "%k"),
        ('"%Y"]', '"%y"]', 6, "pivot: 30"),
        ("AdministrativeSex", "AdministrativeSe", 7, "did you mean AdministrativeSex"),
        ("$born", "$borm", 18, "did you mean born"),
        ("birthDate: $born", "birthDat: $born", 18, "birthDate"),
        ("type: Patient", "type: Patent", 12, "did you mean Patient"),
        ("birthDate: $born", "birthDate: $active", 18, "birthDate is a date"),
        ("birthDate: $born", "birthDate: [$born]", 18, "does not repeat"),
        ("telecom: [{system: phone, value: $phone}]", "telecom: {value: $phone}", 20, "telecom repeats"),
        ("key: [$id]", "key: [$idd]", 13, "did you mean id"),
        ("active: $active", "active: true", 9, "no resource takes the column active"),
        ("living: true", "alive: true", 14, "living"),
        ("gender: $sex", "gender: {ref: patient}", 19, "gender is a code, not a Reference"),
        ("gender: $sex", "gender: {call: lab-valu, with: []}", 19, "did you mean lab-value"),
    ],
)
def test_a_mistake_is_told_with_line_and_nearest_word(tmp_path, old, new, line, said):
    assert old in COLUMNS
    found = [one for one in mistakes(tmp_path, COLUMNS.replace(old, new)) if said in one]
    assert len(found) == 1
    assert found[0].startswith(f"m.yaml:{line}: ")


def test_an_unknown_mapping_is_told_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean eastlab-results"):
        CsvConverter(Profile("p", "eastlab-result", "UTC"))


def test_the_version_follows_the_content(tmp_path):
    first = converter(tmp_path).version
    other = tmp_path / "other"
    other.mkdir()
    assert converter(other).version == first
    third = tmp_path / "third"
    third.mkdir()
    assert converter(third, COLUMNS.replace("official", "usual")).version != first


@pytest.mark.parametrize(("cell", "wanted"), [("01.02.40", "2040-02-01"), ("01.02.41", "1941-02-01")])
def test_a_year_of_two_digits_turns_at_the_declared_one(tmp_path, cell, wanted):
    text = COLUMNS.replace('"%d.%m.%Y", "%Y"]', '"%d.%m.%y"], pivot: 40')
    made = convert(converter(tmp_path, text), ["7", "A", "", cell, "", "", ""])
    assert made.entries[0].resource["birthDate"] == wanted


def test_a_thing_without_its_key_is_left_out_and_counted(tmp_path):
    text = """
columns:
  id: {required: true}
  order: {}
  kind: {}
resources:
  patient: {type: Patient, key: [$id], elements: {active: true}}
  order:
    type: ServiceRequest
    key: [$order]
    when: NOT kind EQUALS "none"
    elements: {status: active, intent: order, subject: {ref: patient}}
"""
    made = convert(converter(tmp_path, text), ["7", "", "x"])
    assert [entry.resource["resourceType"] for entry in made.entries] == ["Patient"]
    found = [(finding.code, finding.location, finding.severity) for finding in made.findings]
    assert found == [("no-natural-key", "order", "information")]
    assert convert(converter(tmp_path, text), ["7", "", "none"]).findings == []


@pytest.mark.parametrize(("family", "wanted"), [("Doe", [{"family": "Doe"}]), ("", [{"text": "J. Doe"}])])
def test_a_default_gives_way_to_what_another_column_says(tmp_path, family, wanted):
    text = COLUMNS.replace(
        "name: [{use: official, family: $family, given: [$given]}]",
        "name: [{slot: ~orders, text: $given}, {family: $family}]",
    )
    entry = convert(converter(tmp_path, text), ["7", family, "J. Doe", "", "", "", ""]).entries[0]
    assert entry.resource["name"] == wanted
    assert entry.resource == assemble("Patient", entry.resource["id"], entry.slots)


def test_two_columns_that_say_the_same_make_one_element(tmp_path):
    text = COLUMNS.replace("telecom: [{system: phone, value: $phone}]", "telecom: [{value: $phone}, {value: $given}]")
    entry = convert(converter(tmp_path, text), ["7", "", "555", "", "", "555", ""]).entries[0]
    assert entry.resource["telecom"] == [{"value": "555"}]
    assert entry.slots["phone"] == entry.slots["given"] == [("telecom", [{"value": "555"}])]


def test_a_date_column_takes_the_date_of_a_time(tmp_path):
    text = COLUMNS.replace('{type: date, format: ["%d.%m.%Y", "%Y"]}', "{type: date}")
    made = convert(converter(tmp_path, text), ["7", "", "", "1980-02-01T23:59:00-05:00", "", "", ""])
    assert made.entries[0].resource["birthDate"] == "1980-02-01"


def test_a_table_can_stand_in_its_column(tmp_path):
    text = COLUMNS.replace("table: AdministrativeSex", "map: {W: female, N: other}")
    genders = [
        convert(converter(tmp_path, text), ["7", "", "", "", sex, "", ""]).entries[0].resource.get("gender")
        for sex in ("W", "n", "F")
    ]
    assert genders == ["female", "other", None]


def test_a_time_without_offset_where_no_zone_is_known_says_so(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_text(
        "columns: {id: {required: true}, at: {type: datetime}}\n"
        "resources: {one: {type: Patient, key: [$id], elements: {deceasedDateTime: $at}}}\n"
    )
    made = CsvConverter(Profile("p", str(path)))
    local, whole = convert(made, ["1", "2026-01-02T03:04:05"]), convert(made, ["1", "2026-01-02T03:04:05Z"])
    assert [(one.code, one.location) for one in local.findings] == [("time-without-zone", "at")]
    assert whole.findings == []
    assert whole.entries[0].resource["deceasedDateTime"] == "2026-01-02T03:04:05+00:00"


@pytest.mark.parametrize(
    ("point", "thousands", "cell", "wanted"),
    [
        (",", ".", "1.234,50", Decimal("1234.50")),
        (",", ".", "12.345.678", Decimal(12345678)),
        (",", ".", "-1.000", Decimal(-1000)),
        (".", ",", "1,234.5", Decimal("1234.5")),
        (".", "'", "1'000", Decimal(1000)),
        (",", " ", " 1 000,5 ", Decimal("1000.5")),
        (",", ".", "1.23", BAD),
        (",", ".", "1.2345,0", BAD),
        (",", ".", "12.34.567", BAD),
        (".", ",", "1,234,5", BAD),
        (",", ".", "", None),
        (",", " ", "  ", None),
    ],
)
def test_groups_of_three_digits_are_read_and_others_are_no_number(point, thousands, cell, wanted):
    assert grouped(decimal(point), thousands, point)(cell) == wanted


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("5,40", {"valueQuantity": {"value": Decimal("5.40"), "unit": "g", "system": UCUM, "code": "g"}}),
        (
            "<0,5",
            {"valueQuantity": {"value": Decimal("0.5"), "comparator": "<", "unit": "g", "system": UCUM, "code": "g"}},
        ),
        ("7", {"valueQuantity": {"value": Decimal(7), "unit": "g", "system": UCUM, "code": "g"}}),
        ("1.234", {"valueString": "1.234 g"}),
        ("neg, s. Befund", {"valueString": "neg, s. Befund g"}),
        (None, None),
    ],
)
def test_a_result_with_a_decimal_comma_keeps_its_digits_and_one_that_is_ambiguous_its_text(cell, wanted):
    assert lab_value_comma(cell, "g") == wanted
