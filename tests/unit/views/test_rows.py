"""Views in process: what their rows are, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mappings.engine.json import dumps, loads
from mappings.engine.views import View, ViewError, compile_view

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "1970-06",
    "_birthDate": {"extension": [{"url": "accuracy", "valueCode": "month"}]},
    "name": [{"family": "Ek", "given": ["Ada", None, "Bo"]}, {"family": "Al", "use": "old"}],
    "link": [
        {"other": {"reference": "http://ehr.example/fhir/Patient/p2/_history/3"}},
        {"other": {"reference": "#contained"}},
        {"other": {"reference": "Patient?identifier=1"}},
        {"other": {"reference": "urn:uuid:0c3151bd", "type": "Patient"}},
    ],
}


def view(*columns: tuple[str, str], **more: Any) -> View:
    select = {"column": [{"name": name, "path": path, **more.pop("column", {})} for name, path in columns]}
    return compile_view({"resource": "Patient", "select": [select], **more})


def value(path: str, resource: dict[str, Any] = PATIENT, **column: Any) -> Any:
    (row,) = view(("x", path), column=column).rows([resource])
    return row["x"]


def test_a_decimal_keeps_its_digits_from_the_line_to_the_row() -> None:
    line = b'{"resourceType":"Patient","id":"p","extension":[{"url":"w","valueDecimal":5.10}]}'
    rows = view(("w", "extension('w').value.ofType(decimal)")).rows([loads(line)])
    assert dumps(list(rows)) == b'[{"w":5.10}]'


def test_columns_tell_name_type_collection_and_description() -> None:
    compiled = view(("g", "name.given"), column={"collection": True, "description": "Given names"})
    (column,) = compiled.columns
    assert (column.name, column.type, column.collection, column.description) == ("g", "string", True, "Given names")


def test_nulls_in_an_array_of_primitives_are_no_items() -> None:
    assert value("name.given", collection=True) == ["Ada", "Bo"]
    assert value("name.given.count()") == 2


def test_a_primitives_extension_stands_in_its_neighbour() -> None:
    assert value("birthDate.extension('accuracy').value.ofType(code)") == "month"


def test_a_reference_key_is_the_id_whatever_stands_around_it() -> None:
    assert value("link.other.getReferenceKey()", collection=True) == ["p2", "0c3151bd"]
    assert value("link.other.getReferenceKey(Practitioner)", collection=True) == []


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("birthDate = @1970-06", True),
        ("birthDate = @1970-06-15", None),
        ("birthDate < @1970-07", True),
        ("birthDate > @1970-06-15", None),
        ("birthDate.lowBoundary()", "1970-06-01"),
        ("birthDate.highBoundary()", "1970-06-30"),
        ("@2020-02.highBoundary()", "2020-02-29"),
        ("@2020-01-01T10:00:00+02:00 = @2020-01-01T08:00:00Z", True),
        ("@T12:34 < @T12:35", True),
        ("1.50.lowBoundary()", Decimal("1.495")),
        ("3 / 2", Decimal("1.5")),
        ("1 / 0", None),
        ("7 div 2", 3),
        ("-7 mod 2", -1),
        ("true = 1", False),
        ("{} and false", False),
        ("{} or false", None),
        ("false implies {}", True),
        ("'a' in ('a' | 'b')", True),
        ("iif(name.exists(), 'y', 'n')", "y"),
    ],
)
def test_an_expression_gives(path: str, wanted: Any) -> None:
    assert value(path) == wanted


def test_more_than_one_value_for_a_column_names_the_column_and_no_value() -> None:
    with pytest.raises(ViewError) as caught:
        value("name.family")
    assert caught.value.path == "select[0].column[0]"
    assert "column 'x'" in caught.value.reason
    assert "Ek" not in str(caught.value)


def test_a_condition_that_is_not_boolean_is_refused_by_its_type_or_by_its_value() -> None:
    with pytest.raises(ViewError, match=r"where\[0\]\.path: a condition must be boolean"):
        view(("id", "id"), where=[{"path": "name.family"}])
    untyped = view(("id", "id"), where=[{"path": "unheardOf"}])
    with pytest.raises(ViewError, match=r"where\[0\]\.path"):
        list(untyped.rows([{**PATIENT, "unheardOf": "yes"}]))


def test_a_value_that_is_not_of_its_columns_type_gives_null() -> None:
    assert value("active", {**PATIENT, "active": "yes"}, type="boolean") is None
    assert (
        value("multipleBirth.ofType(integer)", {**PATIENT, "multipleBirthInteger": Decimal("1.5")}, type="integer")
        is None
    )


def column(path: str) -> dict[str, Any]:
    return {"resource": "Patient", "select": [{"column": [{"name": "a", "path": path}]}]}


@pytest.mark.parametrize(
    ("definition", "place", "reason"),
    [
        ([], "ViewDefinition", "an object"),
        ({}, "resource", "resource type"),
        ({"resource": "Patient"}, "select", "at least one"),
        ({"resource": "Patient", "select": [{}]}, "select", "no column"),
        ({"resource": "Patient", "slect": []}, "ViewDefinition.slect", "nearest is 'select'"),
        (column("name.foo()"), "select[0].column[0].path", "function foo() is not supported"),
        (column("name."), "select[0].column[0].path", "at character 6 stands the end"),
        (column("%nobody"), "select[0].column[0].path", "constant 'nobody' is not defined"),
        (column("name.where()"), "select[0].column[0].path", "takes 1 arguments"),
        (column("(" * 200 + "1" + ")" * 200), "select[0].column[0].path", "levels deep"),
        (
            {"resource": "Patient", "select": [{"column": [{"name": 'a"; drop', "path": "id"}]}]},
            "select[0].column[0].name",
            "letters",
        ),
        (
            {"resource": "Patient", "select": [{"column": [{"name": "a", "path": "name", "type": "string"}]}]},
            "select[0].column[0].path",
            "the path gives HumanName",
        ),
        (
            {"resource": "Patient", "select": [{"column": [{"name": "a", "path": "id"}, {"name": "a", "path": "id"}]}]},
            "select[0].column[1].name",
            "stands twice",
        ),
        (
            {"resource": "Patient", "select": [{"forEach": "name", "forEachOrNull": "name"}]},
            "select[0]",
            "exclude each other",
        ),
        (
            {"resource": "Patient", "select": [{"repeat": ["$this"], "column": [{"name": "a", "path": "id"}]}]},
            "select[0].repeat[0]",
            "never end",
        ),
        (
            {**column("id"), "constant": [{"name": "c", "valueInteger": "1"}]},
            "constant[0].valueInteger",
            "type integer",
        ),
    ],
)
def test_an_invalid_view_names_the_place_and_the_reason(definition: Any, place: str, reason: str) -> None:
    with pytest.raises(ViewError) as caught:
        compile_view(definition)
    assert caught.value.path == place
    assert reason in caught.value.reason


def test_an_element_that_fhir_does_not_have_is_told_with_its_place() -> None:
    compiled = view(("a", "name.familly"), ("b", "contact.name.family"))
    assert [str(one) for one in compiled.unknown] == ["select[0].column[0].path: FHIR R4's HumanName has no familly"]


def test_rows_of_other_resource_types_are_not_looked_at() -> None:
    assert list(view(("id", "id")).rows([{"resourceType": "Group", "id": "g"}])) == []


def test_repeat_goes_as_deep_as_the_resource() -> None:
    depth = 300
    item: dict[str, Any] = {"linkId": str(depth)}
    for level in range(depth - 1, 0, -1):
        item = {"linkId": str(level), "item": [item]}
    compiled = compile_view(
        {
            "resource": "QuestionnaireResponse",
            "select": [
                {"repeat": ["item"], "column": [{"name": "link", "path": "linkId"}, {"name": "n", "path": "%rowIndex"}]}
            ],
        }
    )
    rows = list(compiled.rows([{"resourceType": "QuestionnaireResponse", "item": [item]}]))
    assert rows == [{"link": str(level + 1), "n": level} for level in range(depth)]


def test_a_resource_with_ten_thousand_components_gives_ten_thousand_rows() -> None:
    compiled = compile_view(
        {
            "resource": "Observation",
            "select": [{"forEach": "component", "column": [{"name": "v", "path": "value.ofType(integer)"}]}],
        }
    )
    components = [{"valueInteger": number} for number in range(10_000)]
    rows = compiled.rows([{"resourceType": "Observation", "component": components}])
    assert [row["v"] for row in rows] == list(range(10_000))


def test_a_mistyped_resource_type_is_told_and_one_of_another_version_is_let_be() -> None:
    select = [{"column": [{"name": "id", "path": "id"}]}]
    mistyped = compile_view({"resource": "Patiet", "name": "v", "select": select})
    assert [str(one) for one in mistyped.unknown] == ["resource: FHIR R4 has no Patiet (did you mean Patient?)"]
    assert compile_view({"resource": "Transport", "name": "v", "select": select}).unknown == ()
