"""The warehouse's own views."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mappings.engine.json import loads
from mappings.engine.views import ViewError, compile_view
from mappings.engine.views.generate import ELEMENTS, element_table
from tasks.publish.view_table import ViewTable

VIEWS = Path(__file__).parents[3] / "mappings" / "views"
PROMISED = {
    "patient",
    "patient_identifier",
    "patient_address",
    "encounter",
    "encounter_participant",
    "condition",
    "observation",
    "observation_component",
    "diagnostic_report",
    "specimen",
    "procedure",
    "medication_request",
    "medication_administration",
    "medication_dispense",
    "immunization",
    "allergy_intolerance",
    "service_request",
    "appointment",
    "document_reference",
    "charge_item",
    "account",
    "coverage",
    "practitioner",
    "organization",
    "location",
}
FILES = sorted(VIEWS.glob("*.json"))


def test_every_promised_table_has_its_view() -> None:
    assert {path.stem for path in FILES} >= PROMISED


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_core_view_names_only_what_fhir_has_and_describes_every_column(path: Path) -> None:
    view = compile_view(loads(path.read_bytes()))
    assert view.name == path.stem
    assert view.unknown == ()
    assert view.description
    assert [column.name for column in view.columns if not column.description] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_core_view_carries_its_resources_id_and_its_patients(path: Path) -> None:
    table = ViewTable(compile_view(loads(path.read_bytes())))
    names = {column.name for column in table.view.columns}
    assert table.key in {'"id"', '"patient_id"'}
    assert "patient_id" in names or path.stem in {"patient", "practitioner", "organization", "location"}


def test_the_table_of_elements_is_what_fhir_resources_says() -> None:
    assert json.loads(ELEMENTS.read_text()) == element_table()


def test_the_example_of_the_handbook_is_a_view() -> None:
    text = (VIEWS.parents[1] / "docs" / "views.md").read_text(encoding="utf-8")
    view = compile_view(loads(text.partition("```json\n")[2].partition("```")[0]))
    assert view.unknown == ()
    assert ViewTable(view).key == '"id"'


def test_the_handbook_names_every_function() -> None:
    text = (VIEWS.parents[1] / "docs" / "views.md").read_text(encoding="utf-8").partition("## FHIRPath")[2]
    with pytest.raises(ViewError, match="supported: ") as caught:
        compile_view({"resource": "Patient", "select": [{"column": [{"name": "a", "path": "nothing()"}]}]})
    supported = caught.value.reason.partition("supported: ")[2].rstrip(")").split(", ")
    assert set(supported) - set(text.replace("`", " ").replace(";", " ").split()) == set()
