"""Every case is a folder `<mapping>/<case>` with input.csv, expected.json and why.md.

`SLUICE_GOLDEN=write` writes what is expected anew; what changed is then read in the difference.
"""

import os
from pathlib import Path

import msgspec
import pytest
from fhir.resources.R4B import get_fhir_model_class

from mappings.engine.json import dumps, loads
from mappings.engine.model import Profile
from mappings.engine.slots import assemble
from tasks.convert.csv import CsvConverter
from tasks.errors import BadRecord
from tasks.parse.csv import CsvFormat
from tasks.validate import validator

HERE = Path(__file__).parent
MAPPINGS = sorted(path.stem for path in (HERE.parents[2] / "mappings" / "csv").glob("*.yaml"))
CASES = sorted(path.parent.relative_to(HERE).as_posix() for path in HERE.glob("*/*/input.csv"))


def told(findings):
    return [{"code": one.code, "location": one.location, "severity": one.severity} for one in findings]


def records(case):
    profile = Profile("eastlab", case.split("/")[0], "America/New_York")
    form, converter = CsvFormat(profile), CsvConverter(profile)
    for frame in form.split([(HERE / case / "input.csv").read_bytes()]):
        findings, entries, when = list(frame.findings), [], None
        if not any(finding.severity == "error" for finding in findings):
            try:
                made = converter.convert(form.parse(frame))
                entries, when = made.entries, made.event_time
                findings += made.findings
            except BadRecord as error:
                findings += error.findings
        yield frame.location, when, entries, findings


@pytest.mark.parametrize("case", CASES)
def test_a_file_becomes_what_its_case_expects(case):
    made = [
        {
            "location": location,
            "event_time": when,
            "resources": [entry.resource for entry in entries],
            "slots": [sorted(entry.slots) if entry.slots is not None else None for entry in entries],
            "cleared": [path for entry in entries for path in entry.cleared],
            "findings": told(findings),
        }
        for location, when, entries, findings in records(case)
    ]
    path = HERE / case / "expected.json"
    if os.environ.get("SLUICE_GOLDEN") == "write":
        path.write_bytes(msgspec.json.format(dumps(made), indent=1) + b"\n")
    assert dumps(made) == dumps(loads(path.read_bytes()))
    assert (HERE / case / "why.md").read_text().strip()


@pytest.mark.parametrize("case", CASES)
def test_what_leaves_the_converter_is_valid_and_is_what_its_slots_assemble(case):
    seen = 0
    for _, _, entries, findings in records(case):
        refused = {finding.location for finding in findings if finding.code == "unmapped-code"} == {"status"}
        for entry in entries:
            resource = entry.resource
            if entry.slots is not None:
                assert resource == assemble(resource["resourceType"], resource["id"], entry.slots)
            if refused and resource["resourceType"] == "Observation":
                assert [finding.location for finding in validator("4.0.1").check(resource)] == ["Observation.status"]
                continue
            assert validator("4.0.1").check(resource) == ()
            get_fhir_model_class(resource["resourceType"]).model_validate(resource)
            seen += 1
    assert seen


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_every_mapping_has_a_case(mapping):
    assert any(case.startswith(f"{mapping}/") for case in CASES)
