"""Divided tables: a part a year, rows that move with a corrected time, years that get a part of their own later."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from mappings.engine.json import dumps
from mappings.engine.views import View, compile_view
from tasks.errors import ConfigError
from tasks.publish.view_parts import divide_all
from tasks.publish.views import ensure_tables, refresh

Connection = psycopg.Connection[Any]
NOW = datetime.now(UTC).year
MOMENT = [{"name": "ansi/type", "value": "TIMESTAMP WITH TIME ZONE"}, {"name": "sluice/partition", "value": "year"}]


def result(*more: dict[str, Any], tag: list[dict[str, str]] = MOMENT) -> View:
    columns = [
        {"name": "id", "path": "getResourceKey()"},
        {"name": "at", "path": "effective.ofType(dateTime)", "type": "dateTime", "tag": tag},
        *more,
    ]
    return compile_view({"resource": "Observation", "name": "result", "select": [{"column": columns}]})


def put(store: Connection, key: str, at: str | None, version: int = 1, delivery: int = 1) -> None:
    said = {"resourceType": "Observation", "id": key} | ({"effectiveDateTime": at} if at else {})
    store.execute(
        b"INSERT INTO fhir.resource VALUES ('Observation', %s, %s, %s, false, %s::jsonb) ON CONFLICT (resource_type, "
        b"id) DO UPDATE SET version_id = excluded.version_id, record_id = excluded.record_id, "
        b"resource = excluded.resource",
        (key, version, delivery << 32 | 7, dumps(said).decode()),
    )


def publish(store: Connection, key: str, at: str | None, version: int = 1, delivery: int = 1) -> None:
    put(store, key, at, version, delivery)
    with store.transaction():
        store.execute(b"CREATE TEMP TABLE changed (resource_type text, id text, old_version int) ON COMMIT DROP")
        store.execute(b"INSERT INTO changed VALUES ('Observation', %s, nullif(%s - 1, 0))", (key, version))
        refresh(store, "changed")


def parts(store: Connection) -> dict[str, list[str]]:
    """Return the ids in each part that has any."""
    found = store.execute(
        b"SELECT tableoid::regclass::text, array_agg(id ORDER BY id) FROM core.result GROUP BY 1"
    ).fetchall()
    return dict(found)


def counted(store: Connection) -> dict[int, int]:
    return dict(store.execute(b"SELECT delivery_id, rows FROM ops.view_rows WHERE rows <> 0").fetchall())


def test_rows_land_in_the_part_of_their_year_and_move_when_the_time_is_corrected(store: Connection) -> None:
    ensure_tables(store, [result()])
    for key, at in (("now", f"{NOW}-03-01"), ("old", "1971-03-01"), ("never", None), ("odd", "9999-12-31")):
        publish(store, key, at)
    assert parts(store) == {f"core.result_{NOW}": ["now"], "core.result_default": ["never", "odd", "old"]}
    publish(store, "now", "1971-03-02", version=2)
    publish(store, "never", f"{NOW}-12-31T23:30:00-00:00", version=2)
    publish(store, "odd", f"{NOW}-12-31T23:30:00-05:00", version=2)
    assert parts(store) == {f"core.result_{NOW}": ["never"], "core.result_default": ["now", "odd", "old"]}


def test_a_year_of_many_rows_gets_a_part_and_a_rebuild_keeps_it(store: Connection) -> None:
    ensure_tables(store, [result()])
    publish(store, "late", "2019-07-01")
    store.execute(
        b"INSERT INTO core.result (id, at, version_id, record_id) "
        b"SELECT 'n' || n, '2019-01-01', 1, 1 FROM generate_series(1, 999) n"
    )
    assert divide_all(store) == 1
    assert {part: len(ids) for part, ids in parts(store).items()} == {"core.result_2019": 1000}
    assert divide_all(store) == 0
    publish(store, "late", "2019-07-02", version=2)
    flag = {"name": "status", "path": "status"}
    assert ensure_tables(store, [result(flag)]) == ["result"]
    assert parts(store) == {"core.result_2019": ["late"]}
    plan = store.execute(b"EXPLAIN SELECT * FROM core.result WHERE at >= '2019-02-01' AND at < '2019-09-01'").fetchall()
    assert {line.split(" on ")[1].split()[0] for (line,) in plan if " on " in line} == {"result_2019"}


def test_a_year_is_left_in_the_default_part_while_a_reader_holds_it(
    store: Connection, views_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.publish.view_parts._PATIENCE", "20ms")
    ensure_tables(store, [result()])
    store.execute(
        b"INSERT INTO core.result (id, at, version_id, record_id) "
        b"SELECT 'n' || n, '2019-01-01', 1, 1 FROM generate_series(1, 1000) n"
    )
    with psycopg.connect(views_url) as reader:
        reader.execute(b"SELECT count(*) FROM core.result")
        assert divide_all(store) == 0
    assert ensure_tables(store, [result()]) == []
    assert list(parts(store)) == ["core.result_2019"]


def test_rows_are_counted_by_delivery_through_corrections_and_rebuilds(store: Connection) -> None:
    put(store, "a", None)
    put(store, "b", "2020", delivery=2)
    ensure_tables(store, [result()])
    assert counted(store) == {1: 1, 2: 1}
    publish(store, "c", f"{NOW}", delivery=3)
    publish(store, "a", f"{NOW}", version=2, delivery=3)
    assert counted(store) == {2: 1, 3: 2}
    ensure_tables(store, [result({"name": "status", "path": "status"})])
    assert counted(store) == {2: 1, 3: 2}


def test_a_table_has_the_key_that_its_view_promises(store: Connection) -> None:
    with_key = {
        "resource": "Observation",
        "name": "part",
        "select": [
            {"column": [{"name": "id", "path": "getResourceKey()"}]},
            {"forEach": "component", "column": [{"name": "n", "path": "%rowIndex", "tag": [{"name": "sluice/key"}]}]},
        ],
    }
    ensure_tables(store, [compile_view(with_key), result(tag=MOMENT[:1])])
    found = store.execute(
        b"SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint "
        b"WHERE contype = 'p' AND connamespace = 'core'::regnamespace ORDER BY 1"
    ).fetchall()
    assert found == [("core.part", "PRIMARY KEY (id, n)"), ("core.result", "PRIMARY KEY (id)")]


def test_what_is_no_moment_divides_no_table(store: Connection) -> None:
    with pytest.raises(ConfigError, match=r"view result: select\[0\]\.column\[1\]\.tag: sluice/partition is year"):
        ensure_tables(store, [result(tag=MOMENT[1:])])
