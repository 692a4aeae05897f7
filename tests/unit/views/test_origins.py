"""Columns know the elements that they are made from."""

from __future__ import annotations

import pytest

from mappings.engine.views import compile_view
from mappings.engine.views.origins import Origin, origins
from tasks.core_views import core_views


def made_from(select):
    view = {"resourceType": "ViewDefinition", "name": "v", "status": "active", "resource": "Patient", "select": select}
    return {name: [(one.path, one.identity) for one in some] for name, some in origins(compile_view(view)).items()}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("birthDate", [("birthDate", True)]),
        ("name.first().family", [("name.family", True)]),
        ("name.where(use = 'official').family.first()", [("name.family", False)]),
        ("getResourceKey()", [("id", False)]),
        ("gender = 'female'", [("gender", False)]),
        ("iif(active, gender, 'x')", [("active", False), ("gender", False)]),
        ("%resource.active", [("active", True)]),
        ("'always'", []),
    ],
)
def test_a_path_names_its_elements(path, expected):
    found = made_from([{"column": [{"name": "c", "path": path}]}])["c"]
    assert [path for path, _ in found] == [path for path, _ in expected]
    if "first()" not in path:
        assert found == expected


def test_columns_inside_an_iteration_start_from_its_elements():
    select = [
        {
            "forEach": "contact",
            "column": [{"name": "n", "path": "%rowIndex"}],
            "select": [{"forEach": "telecom", "column": [{"name": "value", "path": "value"}]}],
        }
    ]
    assert made_from(select) == {"n": [], "value": [("contact.telecom.value", True)]}


def test_branches_of_a_union_all_count():
    branches = [{"column": [{"name": "c", "path": path}]} for path in ("gender", "birthDate")]
    assert made_from([{"unionAll": branches}]) == {"c": [("birthDate", True), ("gender", True)]}


def test_every_column_of_the_warehouse_has_its_origins_or_counts_rows():
    for name, view in core_views().items():
        for column, found in origins(view).items():
            assert found or column == "ordinal" or column.endswith("ordinal"), f"{name}.{column}"
            assert Origin("", True) not in found
