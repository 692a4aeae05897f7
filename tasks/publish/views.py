"""The analysts' tables: one `core.<view>` for each ViewDefinition, rebuilt when it changes, refreshed with the store.

A rebuild does not stop readers or publishing: the new table is filled beside the old one, what is published meanwhile
is noted in `ops.view_backlog`, and one short transaction works that off and puts the new table in the old one's place.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg

from mappings.engine.views import View, ViewError
from mappings.engine.views.quoting import literal, name
from tasks.errors import ConfigError, Transient
from tasks.log import get_logger
from tasks.publish import view_parts
from tasks.publish.view_state import PUBLISHING, ensure_state
from tasks.publish.view_swap import Replacement, swap
from tasks.publish.view_table import CHANGED, ViewTable, reason

Connection = psycopg.Connection[Any]

ROUNDS = 30
"""How often a new table tries to take the old one's place while somebody reads that one."""

_LOCK_PATIENCE = "2s"
_COUNTED = "SELECT record_id >> 32 AS delivery_id, count(*) AS rows FROM {rows} GROUP BY 1"
_BROKEN = b"UPDATE ops.view_definition SET hash = NULL, problem = %s WHERE name = %s"


def ensure_tables(connection: Connection, views: Iterable[View]) -> list[str]:
    """Make the tables that `views` describe, build those anew whose definition changed; return the names of the built.

    Takes a connection in autocommit mode. Tables of views that are gone stay until `drop_tables`. Raises `ConfigError`
    with the view's name where a view cannot become a table, where a resource does not fit it, or where another object
    needs a column that the new definition has not: the old table stays. Raises `Transient` where readers hold the old
    table for longer than about a minute.
    """
    tables = _tables(views)
    with alone(connection):
        ensure_state(connection)
        return [table.name for table in tables if _ensure(connection, table)]


def refresh(connection: Connection, changed: str) -> int:
    """Bring the tables up to date for the relation `changed` (resource_type, id, old_version); return the new rows.

    To be called inside the publishing transaction. Costs as much as there is in `changed`, whatever the store holds.
    A table is kept by the definition that it was built from, whichever the calling process knows. A table whose view
    a resource does not fit is left as it is, with its problem in `ops.view_definition`, until it is built anew: one
    view must not hold up publishing.
    """
    connection.execute(PUBLISHING)
    if connection.execute(b"SELECT to_regclass('ops.view_definition')").fetchone() == (None,):
        return 0
    connection.execute(f"ANALYZE {changed}".encode())
    connection.execute(
        "INSERT INTO ops.view_backlog (name, resource_type, id) SELECT d.name, c.resource_type, c.id "
        f"FROM {changed} c JOIN ops.view_definition d ON d.building_type = c.resource_type "
        "ON CONFLICT DO NOTHING".encode()
    )
    kept = connection.execute(
        "SELECT name, resource_type, key, refresh_sql FROM ops.view_definition WHERE hash IS NOT NULL "
        f"AND resource_type IN (SELECT resource_type FROM {changed}) ORDER BY name".encode()
    ).fetchall()
    no_jit(connection)
    return sum(_keep(connection, kept_table, changed) for kept_table in kept)


def _keep(connection: Connection, table: tuple[str, str, str, str], changed: str) -> int:
    view, kind, key, sql = table
    some = f'SELECT c.id COLLATE "C" AS id FROM {changed} c WHERE c.resource_type = {literal(kind)}'
    # a new resource has no rows to be taken away, in none of the parts
    known = f"{some} AND c.old_version IS NOT NULL"
    try:
        with connection.transaction():
            _take_away(connection, view, key, known)
            return _put(connection, view, sql, some)
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        problem = reason(error)
        connection.execute(_BROKEN, (problem, view))
        get_logger(view=view, problem=problem).error("a table of core is not kept: mend its view, then views apply")
        return 0


def left_over(connection: Connection, keep: Iterable[str]) -> list[str]:
    """Return the tables of views that are not named in `keep`."""
    rows = connection.execute(
        b"SELECT name FROM ops.view_definition WHERE name <> ALL(%s) ORDER BY name", (list(keep),)
    ).fetchall()
    return [str(row[0]) for row in rows]


def drop_tables(connection: Connection, keep: Iterable[str]) -> list[str]:
    """Drop the tables of views that are not named in `keep`; return their names.

    Raises `ConfigError` where something else in the warehouse reads such a table.
    """
    with alone(connection):
        ensure_state(connection)
        gone = left_over(connection, keep)
        for view in gone:
            with connection.transaction():
                try:
                    connection.execute(f"DROP TABLE IF EXISTS core.{name(view)}".encode())
                except psycopg.errors.DependentObjectsStillExist:
                    raise ConfigError(f"core.{view}: other views or tables read it; drop those first") from None
                for relation in (b"view_definition", b"view_rows"):
                    connection.execute(b"DELETE FROM ops." + relation + b" WHERE name = %s", (view,))
    return gone


def _tables(views: Iterable[View]) -> list[ViewTable]:
    tables = []
    for view in views:
        try:
            tables.append(_table(view))
        except ViewError as error:
            raise ConfigError(f"view {view.name or view.resource}: {error}; no table was changed") from None
    return tables


@lru_cache(maxsize=256)
def _table(view: View) -> ViewTable:
    if view.unknown:
        raise ViewError(view.unknown[0].path, str(view.unknown[0]).partition(": ")[2])
    return ViewTable(view)


def _ensure(connection: Connection, table: ViewTable) -> bool:
    wanted = hashlib.sha256("\n".join([table.create(), *table.finish(), table.refresh()]).encode()).hexdigest()
    found = connection.execute(
        b"SELECT hash, to_regclass(%s) IS NOT NULL FROM ops.view_definition WHERE name = %s",
        (table.relation, table.name),
    ).fetchone()
    if found == (wanted, True):
        view_parts.divide(connection, table)
        return False
    _begin(connection, table, wanted)
    try:
        _fill(connection, table)
        _finish(connection, table)
    except psycopg.DataError as error:
        raise ConfigError(f"view {table.name}: {reason(error)}; the table was not changed") from None
    return True


def _begin(connection: Connection, table: ViewTable, wanted: str) -> None:
    """Announce the build: whoever publishes from now on notes what it changes, and all else is visible to the build."""
    with connection.transaction():
        connection.execute(PUBLISHING)
        connection.execute(b"DELETE FROM ops.view_backlog WHERE name = %s", (table.name,))
        connection.execute(
            b"INSERT INTO ops.view_definition (name, building, building_type) VALUES (%s, %s, %s) "
            b"ON CONFLICT (name) DO UPDATE SET building = excluded.building, building_type = excluded.building_type",
            (table.name, wanted, table.view.resource),
        )
        connection.execute(b"DELETE FROM ops.view_rows WHERE name = %s", (table.building_name,))
        connection.execute(f"DROP TABLE IF EXISTS {table.building}".encode())
        connection.execute(table.create().encode())
        view_parts.prepare(connection, table)


def _fill(connection: Connection, table: ViewTable) -> None:
    with connection.transaction():
        no_jit(connection)
        connection.execute(table.fill().encode())
        connection.execute(
            f"INSERT INTO ops.view_rows (name, delivery_id, rows) SELECT {literal(table.building_name)}, * "
            f"FROM ({_COUNTED.format(rows=table.building)}) b".encode()
        )
        view_parts.prepare(connection, table)
        for statement in table.finish():
            connection.execute(statement.encode())


def _finish(connection: Connection, table: ViewTable) -> None:
    """Put the table into its place, in short attempts: a reader of the old one must not hold up publishing for long."""
    for _ in range(ROUNDS):
        with suppress(psycopg.errors.LockNotAvailable):
            _take_place(connection, table)
            return
        time.sleep(0.1)
    raise Transient(f"view {table.name}: readers hold its table; the old one stays, build again when they have ended")


def _take_place(connection: Connection, table: ViewTable) -> None:
    """Work off what was published since the build began, and swap; publishing waits for that long."""
    some = f"SELECT c.id FROM ops.view_backlog c WHERE c.name = {literal(table.name)}"
    with connection.transaction():
        no_jit(connection)
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_PATIENCE}'".encode())
        connection.execute(PUBLISHING)
        _take_away(connection, table.building_name, table.key, some)
        _put(connection, table.building_name, table.refresh(table.building), some)
        connection.execute(b"DELETE FROM ops.view_rows WHERE name = %s", (table.name,))
        connection.execute(b"UPDATE ops.view_rows SET name = %s WHERE name = %s", (table.name, table.building_name))
        swap(connection, Replacement("core", table.name, tuple(table.renames())))
        connection.execute(b"DELETE FROM ops.view_backlog WHERE name = %s", (table.name,))
        connection.execute(
            b"UPDATE ops.view_definition SET hash = building, building = NULL, building_type = NULL, problem = NULL, "
            b"built_at = now(), resource_type = %s, key = %s, refresh_sql = %s WHERE name = %s",
            (table.view.resource, table.key, table.refresh(), table.name),
        )


def _take_away(connection: Connection, table: str, key: str, some: str) -> None:
    """Delete the rows of some resources, and count them out."""
    connection.execute(
        f"WITH {CHANGED} AS MATERIALIZED ({some}), taken AS (DELETE FROM core.{name(table)} "
        f"WHERE {key} IN (SELECT id FROM {CHANGED}) RETURNING record_id) "
        f"UPDATE ops.view_rows v SET rows = v.rows - t.rows FROM ({_COUNTED.format(rows='taken')}) t "
        f"WHERE v.name = {literal(table)} AND v.delivery_id = t.delivery_id".encode()
    )


def _put(connection: Connection, table: str, sql: str, some: str) -> int:
    """Insert the rows of some resources, count them in, and return how many there are."""
    row = connection.execute(
        f"WITH {CHANGED} AS MATERIALIZED ({some}), put AS ({sql} RETURNING record_id), counted AS ("
        f"INSERT INTO ops.view_rows AS v (name, delivery_id, rows) SELECT {literal(table)}, * "
        f"FROM ({_COUNTED.format(rows='put')}) p "
        "ON CONFLICT (name, delivery_id) DO UPDATE SET rows = v.rows + excluded.rows RETURNING 1) "
        "SELECT count(*) FROM put".encode()
    ).fetchone()
    return int(row[0]) if row else 0


@contextmanager
def alone(connection: Connection) -> Iterator[None]:
    """Let one process at a time build tables."""
    connection.execute(b"SELECT pg_advisory_lock(hashtextextended('sluice:views', 0))")
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute(b"SELECT pg_advisory_unlock(hashtextextended('sluice:views', 0))")


def no_jit(connection: Connection) -> None:
    """Keep Postgres from compiling a view's many expressions, for this transaction: that takes longer than few rows."""
    connection.execute(b"SELECT set_config('jit', 'off', true)")
