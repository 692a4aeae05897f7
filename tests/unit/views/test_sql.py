"""What gets into a view's SQL, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.engine.views import ViewError, column_type, compile_view
from mappings.engine.views.quoting import literal, name


def sql(path: str, **column: Any) -> str:
    select = [{"column": [{"name": "a", "path": path, **column}]}]
    return compile_view({"resource": "Patient", "select": select}).sql("fhir.resource")


def test_a_string_is_one_constant_whatever_it_holds() -> None:
    assert literal("a'b") == "'a''b'"
    assert literal("\\'; drop table x; --") == " E'\\\\''; drop table x; --'"
    assert name('a"b') == '"a""b"'


def test_a_string_that_no_database_holds_is_refused() -> None:
    for path in ("'\\u0000'", "'\\ud800'", "name.where(use = '\\u0000').family.first()"):
        with pytest.raises(ViewError, match="a string holds a character"):
            sql(path)


def test_a_name_longer_than_postgres_takes_is_refused_not_cut() -> None:
    with pytest.raises(ViewError, match="63 bytes"):
        compile_view({"resource": "Patient", "select": [{"column": [{"name": "a" * 64, "path": "id"}]}]}).sql("t")


def test_branches_of_a_union_with_different_types_are_refused() -> None:
    branches = [{"column": [{"name": "a", "path": path}]} for path in ("id", "active")]
    view = compile_view({"resource": "Patient", "select": [{"unionAll": branches}]})
    with pytest.raises(ViewError, match="boolean, and text in the first branch"):
        view.sql("t")


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ({"path": "birthDate"}, "text"),
        ({"path": "birthDate", "tag": [{"name": "ansi/type", "value": "DATE"}]}, "date"),
        (
            {"path": "meta.lastUpdated", "tag": [{"name": "ansi/type", "value": "timestamp with time zone"}]},
            "timestamptz",
        ),
        ({"path": "active"}, "boolean"),
        ({"path": "multipleBirth.ofType(integer)"}, "integer"),
        ({"path": "extension('x').value.ofType(decimal)"}, "numeric"),
        ({"path": "name.given", "collection": True}, "jsonb"),
        ({"path": "name.first()"}, "jsonb"),
    ],
)
def test_a_columns_type_in_postgres_follows_its_type_and_its_tag(column: dict[str, Any], wanted: str) -> None:
    view = compile_view({"resource": "Patient", "select": [{"column": [{"name": "a", **column}]}]})
    assert column_type(view.columns[0]) == wanted


def test_an_unknown_ansi_type_is_named() -> None:
    with pytest.raises(ViewError, match="ansi/type 'MONEY'"):
        sql("id", tag=[{"name": "ansi/type", "value": "MONEY"}])
