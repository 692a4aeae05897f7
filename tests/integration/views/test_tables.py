"""The tables of core: built, refreshed with the store, rebuilt when their view changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from mappings.engine.json import dumps, loads
from mappings.engine.views import View, compile_view
from tasks.errors import ConfigError, Transient
from tasks.publish import views as module
from tasks.publish.view_runner import rows_in_postgres
from tasks.publish.view_table import ViewTable
from tasks.publish.views import drop_tables, ensure_tables, refresh

Connection = psycopg.Connection[Any]
VIEWS = Path(__file__).parents[3] / "mappings" / "views"


def people(*more: dict[str, Any], **view: Any) -> View:
    columns = [
        {"name": "id", "path": "getResourceKey()", "description": "Id of the person"},
        {"name": "family", "path": "name.family.first()", "description": "Family name's first"},
        *more,
    ]
    return compile_view(
        {"resource": "Patient", "name": "people", "description": "People", "select": [{"column": columns}], **view}
    )


def put(store: Connection, *patients: dict[str, Any], deleted: bool = False, version: int = 1) -> None:
    for patient in patients:
        store.execute(
            b"INSERT INTO fhir.resource VALUES ('Patient', %s, %s, %s, %s, %s::jsonb) ON CONFLICT (resource_type, id) "
            b"DO UPDATE SET version_id = excluded.version_id, record_id = excluded.record_id, "
            b"deleted = excluded.deleted, resource = excluded.resource",
            (patient["id"], version, 100 + version, deleted, dumps({"resourceType": "Patient", **patient}).decode()),
        )


def change(store: Connection, *ids: str) -> int:
    with store.transaction():
        store.execute(b"CREATE TEMP TABLE changed (resource_type text, id text, old_version int) ON COMMIT DROP")
        store.execute(b"INSERT INTO changed SELECT 'Patient', unnest(%s::text[]), 1", (list(ids),))
        return refresh(store, "changed")


def rows(store: Connection, columns: str = "id, family, version_id, record_id") -> list[tuple[Any, ...]]:
    return store.execute(f"SELECT {columns} FROM core.people ORDER BY 1".encode()).fetchall()


def ada(family: str = "Ek") -> dict[str, Any]:
    return {"id": "ada", "name": [{"family": family}]}


BO = {"id": "bo", "name": [{"family": "Al"}]}


def test_a_table_has_the_views_rows_with_version_and_record_and_explains_itself(store: Connection) -> None:
    put(store, ada(), BO)
    assert ensure_tables(store, [people()]) == ["people"]
    assert rows(store) == [("ada", "Ek", 1, 101), ("bo", "Al", 1, 101)]
    comments = store.execute(
        b"SELECT attname, col_description(attrelid, attnum) FROM pg_attribute "
        b"WHERE attrelid = 'core.people'::regclass AND attnum > 0 ORDER BY attnum"
    ).fetchall()
    assert comments[:2] == [("id", "Id of the person"), ("family", "Family name's first")]
    assert all(text for _name, text in comments)
    indexes = store.execute(
        b"SELECT indexdef FROM pg_indexes WHERE schemaname = 'core' AND tablename = 'people'"
    ).fetchall()
    assert [text for (text,) in indexes if "(id)" in text]


def test_a_view_that_did_not_change_is_not_built_again(store: Connection) -> None:
    ensure_tables(store, [people()])
    assert ensure_tables(store, [people()]) == []
    store.execute(b"DROP TABLE core.people")
    assert ensure_tables(store, [people()]) == ["people"]


def test_tables_that_stand_wait_for_no_transaction_that_publishes(store: Connection, views_url: str) -> None:
    """A publishing process that is frozen must not hold up a start of the stack, nor those who publish after it."""
    ensure_tables(store, [people()])
    with psycopg.connect(views_url) as publishing:
        publishing.execute(b"SELECT * FROM ops.view_definition FOR SHARE")
        store.execute(b"SET lock_timeout = '1s'")
        assert ensure_tables(store, [people()]) == []
        assert drop_tables(store, ["people"]) == []


def test_a_refresh_touches_the_changed_resources_and_no_other(store: Connection) -> None:
    put(store, ada(), BO)
    ensure_tables(store, [people()])
    before = store.execute(b"SELECT ctid FROM core.people WHERE id = 'bo'").fetchone()
    put(store, ada("Ny"), version=2)
    assert change(store, "ada", "ada", "nobody") == 1
    assert rows(store) == [("ada", "Ny", 2, 102), ("bo", "Al", 1, 101)]
    assert store.execute(b"SELECT ctid FROM core.people WHERE id = 'bo'").fetchone() == before


def test_a_deleted_resource_has_no_rows_and_a_returned_one_has_them_again(store: Connection) -> None:
    put(store, ada(), BO)
    ensure_tables(store, [people()])
    put(store, ada(), deleted=True, version=2)
    change(store, "ada")
    assert rows(store) == [("bo", "Al", 1, 101)]
    put(store, ada(), version=3)
    change(store, "ada")
    assert [row[0] for row in rows(store)] == ["ada", "bo"]


def test_a_refresh_that_is_rolled_back_leaves_the_table_as_it_was(store: Connection) -> None:
    put(store, ada())
    ensure_tables(store, [people()])
    with store.transaction(force_rollback=True):
        put(store, ada("Ny"), version=2)
        change(store, "ada")
        assert rows(store) == [("ada", "Ny", 2, 102)]
    assert rows(store) == [("ada", "Ek", 1, 101)]


def test_a_changed_view_is_built_anew_and_what_reads_its_table_stays(store: Connection) -> None:
    put(store, ada())
    ensure_tables(store, [people()])
    store.execute(b"CREATE SCHEMA mart; CREATE ROLE reader_of_people; GRANT SELECT ON core.people TO reader_of_people")
    store.execute(
        b"CREATE VIEW mart.one AS SELECT id, family FROM core.people; COMMENT ON COLUMN mart.one.family IS 'F'"
    )
    store.execute(b"CREATE MATERIALIZED VIEW mart.two AS SELECT family, count(*) AS n FROM mart.one GROUP BY 1")
    store.execute(b"CREATE UNIQUE INDEX two_family ON mart.two (family)")
    try:
        wider = people({"name": "gender", "path": "gender", "description": "Gender"})
        assert ensure_tables(store, [wider]) == ["people"]
        assert rows(store, "id, gender") == [("ada", None)]
        assert store.execute(b"SELECT family, n FROM mart.two").fetchall() == [("Ek", 1)]
        assert store.execute(b"SELECT col_description('mart.one'::regclass, 2)").fetchone() == ("F",)
        assert store.execute(b"SELECT has_table_privilege('reader_of_people', 'core.people', 'SELECT')").fetchone() == (
            True,
        )
        store.execute(b"REFRESH MATERIALIZED VIEW CONCURRENTLY mart.two")
    finally:
        store.execute(b"DROP SCHEMA mart, core CASCADE; DROP ROLE reader_of_people")


def test_a_column_that_changes_its_type_is_built_anew_in_its_new_type(store: Connection) -> None:
    put(store, {"id": "ada", "birthDate": "1970-06"})
    born = {"name": "born", "path": "birthDate", "type": "date", "description": "Born"}
    ensure_tables(store, [people(born)])
    assert rows(store, "born") == [("1970-06",)]
    ensure_tables(store, [people({**born, "tag": [{"name": "ansi/type", "value": "DATE"}]})])
    assert rows(store, "born::text, pg_typeof(born)::text") == [("1970-06-01", "date")]


def test_a_new_definition_that_takes_a_column_away_from_a_reader_is_refused_and_the_old_table_stays(
    store: Connection,
) -> None:
    put(store, ada())
    gender = {"name": "gender", "path": "gender", "description": "Gender"}
    ensure_tables(store, [people(gender)])
    store.execute(b"CREATE SCHEMA mart; CREATE VIEW mart.genders AS SELECT gender FROM core.people")
    with pytest.raises(
        ConfigError, match=r"people: mart\.genders does not fit its new columns .*gender.*the old table stays"
    ):
        ensure_tables(store, [people()])
    assert rows(store, "id, gender") == [("ada", None)]
    assert change(store, "ada") == 1
    assert ensure_tables(store, [people(gender)]) == []


def test_a_view_that_names_what_fhir_does_not_have_is_refused_with_its_place(store: Connection) -> None:
    wrong = people({"name": "x", "path": "nmae.family", "description": "X"})
    with pytest.raises(
        ConfigError, match=r"view people: select\[0\]\.column\[2\]\.path: FHIR R4's Patient has no nmae"
    ):
        ensure_tables(store, [wrong])


def test_a_view_without_its_resources_id_gets_a_column_for_it(store: Connection) -> None:
    put(store, ada())
    column = {"name": "family", "path": "name.family.first()"}
    view = compile_view({"resource": "Patient", "name": "people", "select": [{"column": [column]}]})
    ensure_tables(store, [view])
    assert rows(store, "resource_id, family") == [("ada", "Ek")]
    assert change(store, "ada") == 1


def test_an_unpublishable_value_is_null_in_its_row_and_stops_nobody(store: Connection) -> None:
    columns = [
        {
            "name": "at",
            "path": "deceased.ofType(dateTime)",
            "tag": [{"name": "ansi/type", "value": "TIMESTAMP WITH TIME ZONE"}],
        },
        {"name": "day", "path": "birthDate", "tag": [{"name": "ansi/type", "value": "DATE"}]},
        {"name": "n", "path": "multipleBirth.ofType(integer)", "type": "integer"},
        {"name": "b", "path": "active", "type": "boolean"},
    ]
    odd = {
        "deceasedDateTime": "2021-02-29T25:00:00Z",
        "birthDate": "0000-01-01",
        "multipleBirthInteger": 10**30,
        "active": "x",
    }
    put(store, {"id": "ada", **odd}, {"id": "bo", "deceasedDateTime": "2020-02-29T10:00:00.25+02:00", "active": True})
    ensure_tables(store, [people(*columns)])
    found = rows(store, "id, (at AT TIME ZONE 'UTC')::text, day, n, b")
    assert found == [("ada", None, None, None, None), ("bo", "2020-02-29 08:00:00.25", None, None, True)]


@pytest.mark.parametrize("standard", ["on", "off"])
@pytest.mark.parametrize(
    "text", ["'; DROP TABLE core.people; --", "\\'; DROP TABLE core.people; --", '") || "', "%s $1 \\"]
)
def test_what_a_view_says_is_never_read_as_sql(store: Connection, text: str, standard: str) -> None:
    put(store, {"id": "ada", "name": [{"family": text, "use": "old"}]})
    said = {"constant": [{"name": "c", "valueString": text}]}
    paths = ["%c", "name.where(family = %c).use", "name.where(family.contains(%c)).use", "name.family.join(%c) = %c"]
    columns = [{"name": f"x{n}", "path": path, "description": text} for n, path in enumerate(paths)]
    odd = {"name": "odd", "path": "name.`" + text.replace("\\", "\\\\") + "`.exists()"}
    store.execute(f"SET standard_conforming_strings = {standard}; SET escape_string_warning = off".encode())
    view = people(*columns, odd, **said)
    (row,) = rows_in_postgres(store, view, [{"resourceType": "Patient", "name": [{"family": text, "use": "old"}]}])
    assert list(row.values())[2:] == [text, "old", "old", True, False]
    with pytest.raises(ConfigError, match="has no"):
        ensure_tables(store, [view])
    ensure_tables(store, [people(*columns, **said)])
    assert rows(store, "x0, x1, x2, x3") == [(text, "old", "old", True)]


def test_what_is_published_while_a_table_is_built_is_in_it(store: Connection, views_url: str) -> None:
    put(store, ada(), BO)
    ensure_tables(store, [people()])
    table = ViewTable(people({"name": "gender", "path": "gender", "description": "Gender"}))
    with psycopg.connect(views_url, autocommit=True) as builder:
        module._begin(builder, table, "hash")
        module._fill(builder, table)
        put(store, {**ada("Ny"), "gender": "female"}, {"id": "cy"}, version=2)
        put(store, BO, deleted=True, version=2)
        change(store, "ada", "bo", "cy")
        assert rows(store, "id, family") == [("ada", "Ny"), ("cy", None)]
        module._finish(builder, table)
    assert rows(store, "id, family, gender") == [("ada", "Ny", "female"), ("cy", None, None)]
    assert store.execute(b"SELECT count(*) FROM ops.view_backlog").fetchone() == (0,)


def test_a_table_is_kept_by_the_definition_it_was_built_from(store: Connection) -> None:
    put(store, ada())
    ensure_tables(store, [people({"name": "gender", "path": "gender", "description": "Gender"})])
    put(store, {**ada("Ny"), "gender": "female"}, version=2)
    assert change(store, "ada") == 1
    assert rows(store, "id, family, gender") == [("ada", "Ny", "female")]


def test_a_resource_that_does_not_fit_a_view_stops_its_table_and_not_publishing(
    store: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = people({"name": "alias", "path": "name.family", "description": "Gives one only while there is one"})
    put(store, ada(), BO)
    ensure_tables(store, [wrong])
    put(store, {"id": "ada", "name": [{"family": "Secret"}, {"family": "Ny"}]}, version=2)
    with store.transaction():
        assert change(store, "ada") == 0
        store.execute(b"CREATE TABLE core.published_all_the_same ()")
    assert store.execute(b"SELECT count(*) FROM core.published_all_the_same").fetchone() == (0,)
    assert [row[0] for row in rows(store)] == ["ada", "bo"]
    (problem,) = store.execute(b"SELECT problem FROM ops.view_definition WHERE hash IS NULL").fetchone() or ("",)
    assert "column 'alias': path 'name.family' gives more than one item" in problem
    with pytest.raises(ConfigError, match=r"view people: select\[0\]\.column\[2\]: column 'alias'") as caught:
        ensure_tables(store, [wrong])
    assert "Secret" not in str(caught.value) + problem + caplog.text
    assert ensure_tables(store, [people()]) == ["people"]


def test_a_reader_of_the_old_table_does_not_hold_up_publishing_and_the_swap_gives_up(
    store: Connection, views_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, ada())
    ensure_tables(store, [people()])
    monkeypatch.setattr(module, "ROUNDS", 2)
    monkeypatch.setattr(module, "_LOCK_PATIENCE", "20ms")
    wide = people({"name": "gender", "path": "gender", "description": "Gender"})
    with psycopg.connect(views_url) as reader:
        reader.execute(b"SELECT count(*) FROM core.people")
        with pytest.raises(Transient, match="readers hold its table"):
            ensure_tables(store, [wide])
        assert change(store, "ada") == 1
    assert ensure_tables(store, [wide]) == ["people"]


def test_nothing_is_refreshed_before_the_first_table_was_built(store: Connection) -> None:
    put(store, ada())
    assert change(store, "ada") == 0


def test_a_build_that_died_is_begun_again(store: Connection) -> None:
    put(store, ada())
    ensure_tables(store, [people()])
    wide = people({"name": "gender", "path": "gender", "description": "Gender"})
    module._begin(store, ViewTable(wide), "died")
    change(store, "ada")
    assert ensure_tables(store, [wide]) == ["people"]
    assert rows(store, "id, gender") == [("ada", None)]
    assert store.execute(b"SELECT name, building FROM ops.view_definition").fetchall() == [("people", None)]


def test_tables_of_views_that_are_gone_are_dropped_on_demand(store: Connection) -> None:
    ensure_tables(store, [people()])
    assert drop_tables(store, ["people"]) == []
    store.execute(b"CREATE VIEW public.reader AS SELECT * FROM core.people")
    with pytest.raises(ConfigError, match=r"core\.people: other views or tables read it"):
        drop_tables(store, [])
    store.execute(b"DROP VIEW public.reader")
    assert drop_tables(store, []) == ["people"]
    assert store.execute(b"SELECT to_regclass('core.people') IS NULL").fetchone() == (True,)


def test_the_warehouses_own_views_become_tables_and_a_second_look_builds_none(store: Connection) -> None:
    views = [compile_view(loads(path.read_bytes())) for path in sorted(VIEWS.glob("*.json"))]
    put(store, {"id": "ada", "identifier": [{"system": "urn:x", "value": "1", "type": {"coding": [{"code": "MR"}]}}]})
    assert len(ensure_tables(store, views)) == len(views)
    assert store.execute(b"SELECT id, mrn FROM core.patient").fetchall() == [("ada", "1")]
    assert store.execute(b"SELECT patient_id, ordinal, value FROM core.patient_identifier").fetchall() == [
        ("ada", 0, "1")
    ]
    assert ensure_tables(store, views) == []
    undescribed = store.execute(
        b"SELECT attrelid::regclass::text, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
        b"WHERE c.relnamespace = 'core'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition "
        b"AND attnum > 0 AND NOT attisdropped "
        b"AND col_description(attrelid, attnum) IS NULL"
    ).fetchall()
    assert undescribed == []
