"""The marts: ready answers over the core tables, from `mappings/marts/*.yaml`, built with them and kept with them.

A mart is a view, which is always as new as the tables under it, or a table with its own statements for what changed,
run inside the publishing transaction. How a table is kept stands in `ops.mart_definition`: whoever publishes keeps it
by the definition that it was built from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import psycopg

from mappings.engine.ucum import normal
from mappings.engine.views.quoting import literal, name
from tasks.core_marts import Mart
from tasks.errors import ConfigError, Transient
from tasks.ledger.db import Connection
from tasks.log import get_logger
from tasks.publish.view_state import PUBLISHING
from tasks.publish.view_swap import Replacement, swap
from tasks.publish.views import alone, no_jit

UNKNOWN_UNITS = """
select distinct o.value_ucum from core.observation o {among}
where o.value_ucum is not null and not exists (select from mart.unit u where u.unit = o.value_ucum)
"""
AMONG = "join {changed} c on c.resource_type = 'Observation' and c.id = o.id"
_BROKEN = b"UPDATE ops.mart_definition SET hash = NULL, problem = %s WHERE name = %s"


def ensure_marts(connection: Connection, marts: Iterable[Mart], rebuilt: Collection[str]) -> list[str]:
    """Make the marts, those anew that changed or that read a table in `rebuilt`; return the names of the built.

    Takes a connection in autocommit mode, after the core tables were made. Raises `ConfigError` with the mart's name
    where the core tables do not have what it names, or where something of a site's own stands on what would change.
    """
    ordered = list(marts)
    with alone(connection):
        learn_units(connection)
        views, tables = ([mart for mart in ordered if mart.kind == kind] for kind in ("view", "table"))
        built = _ensure_new(connection, views, [mart for mart in tables if not _is_there(connection, mart)])
        built += _ensure_views(connection, views)
        for mart in tables:
            if set(mart.reads.values()) & set(rebuilt) or not _stands(connection, mart):
                _build(connection, mart)
                built.append(mart.name)
    return list(dict.fromkeys(built))


def _ensure_new(connection: Connection, views: list[Mart], new: list[Mart]) -> list[str]:
    """Make tables that are not there at all, after the views that they are made from, before those that read them."""
    if not new:
        return []
    above = {mart.name for mart in new}
    for view in views:
        if view.needs & above:
            above.add(view.name)
    for view in reversed(views):
        if view.name in above:
            connection.execute(f"DROP VIEW IF EXISTS mart.{name(view.name)}".encode())
    built = _ensure_views(connection, [view for view in views if view.name not in above])
    for mart in new:
        with _told(mart):
            connection.execute(f"DROP VIEW IF EXISTS mart.{name(mart.name)}".encode())
        _build(connection, mart)
    return built + [mart.name for mart in new]


def _is_there(connection: Connection, mart: Mart) -> bool:
    """Say whether a mart is a table already, and no view as it may have been before."""
    found = connection.execute(
        b"SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)", (f"mart.{name(mart.name)}",)
    ).fetchone()
    return found == (True,)


def refresh_marts(connection: Connection, changed: str) -> None:
    """Bring the marts that are tables up to date for the relation `changed` (resource_type, id, old_version).

    To be called inside the publishing transaction, after the core tables. A mart whose statements fail is left as it
    is with its problem in `ops.mart_definition`, until it is built anew: one mart must not hold up publishing.
    """
    kept = connection.execute(
        "SELECT name, refresh_sql FROM ops.mart_definition WHERE hash IS NOT NULL AND resource_types && "
        f"ARRAY(SELECT DISTINCT resource_type FROM {changed}) ORDER BY name".encode()
    ).fetchall()
    if kept:
        no_jit(connection)
        learn_units(connection, changed)
    for mart, statements in kept:
        try:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement.replace("{changed}", changed).encode())
        except (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError) as error:
            problem = f"Postgres refused with SQLSTATE {error.sqlstate}"
            connection.execute(_BROKEN, (problem, mart))
            get_logger(mart=mart, problem=problem).error("a table of mart is not kept: run views apply")


def learn_units(connection: Connection, changed: str = "") -> None:
    """Put units that no result had before into `mart.unit`, with what they are brought to."""
    if connection.execute(b"SELECT to_regclass('core.observation')").fetchone() == (None,):
        return
    query = UNKNOWN_UNITS.format(among=AMONG.format(changed=changed) if changed else "")
    for (unit,) in connection.execute(query.encode()).fetchall():
        found = normal(unit)
        row = (unit, found.unit, found.factor, found.addend) if found else (unit, None, 1, 0)
        connection.execute(
            b"INSERT INTO mart.unit (unit, unit_normalised, factor, addend) VALUES (%s, %s, %s, %s) "
            b"ON CONFLICT DO NOTHING",
            row,
        )


def _hash(mart: Mart) -> str:
    return hashlib.sha256(repr(mart).encode()).hexdigest()


def _stands(connection: Connection, mart: Mart) -> bool:
    found = connection.execute(
        b"SELECT hash, to_regclass(%s) IS NOT NULL FROM ops.mart_definition WHERE name = %s",
        (f"mart.{name(mart.name)}", mart.name),
    ).fetchone()
    return found == (_hash(mart), True)


def _ensure_views(connection: Connection, views: list[Mart]) -> list[str]:
    """Make all views anew where one has changed: they stand on each other."""
    if all(_stands(connection, mart) for mart in views):
        return []
    with connection.transaction():
        for mart in reversed(views):
            with _told(mart):
                connection.execute(f"DROP VIEW IF EXISTS mart.{name(mart.name)}".encode())
        for mart in views:
            columns = ", ".join(name(column) for column in mart.columns)
            with _told(mart):
                connection.execute(f"CREATE VIEW mart.{name(mart.name)} ({columns}) AS {mart.query}".encode())
            _describe(connection, mart, f"mart.{name(mart.name)}", "VIEW")
            _note(connection, mart)
    return [mart.name for mart in views]


def _build(connection: Connection, mart: Mart) -> None:
    """Fill a new table beside the old one and change places; publishing waits for that long, readers do not."""
    names = tuple((f"{mart.name}__new_{number}", f"{mart.name}_{number}") for number in range(len(mart.indexes) + 1))
    table = Replacement("mart", mart.name, names)
    with _told(mart), connection.transaction():
        no_jit(connection)
        connection.execute(b"SET LOCAL lock_timeout = '60s'")
        connection.execute(PUBLISHING)
        like = f"SELECT * FROM mart.{name(mart.like)}"
        connection.execute(f"CREATE TABLE {table.building} AS {like} WITH NO DATA".encode())
        for statement in mart.fill:
            connection.execute(statement.replace("{table}", table.building).encode())
        key = f"ADD CONSTRAINT {name(names[0][0])} PRIMARY KEY ({mart.key})"
        connection.execute(f"ALTER TABLE {table.building} {key}".encode())
        for (index, _), wanted in zip(names[1:], mart.indexes, strict=True):
            columns, where, condition = wanted.partition(" where ")
            connection.execute(f"CREATE INDEX {name(index)} ON {table.building} ({columns}){where}{condition}".encode())
        _describe(connection, mart, table.building, "TABLE")
        connection.execute(f"ANALYZE {table.building}".encode())
        swap(connection, table)
        _note(connection, mart)


def _describe(connection: Connection, mart: Mart, relation: str, kind: str) -> None:
    connection.execute(f"COMMENT ON {kind} {relation} IS {literal(mart.description)}".encode())
    for column, text in mart.columns.items():
        connection.execute(f"COMMENT ON COLUMN {relation}.{name(column)} IS {literal(text)}".encode())


def _note(connection: Connection, mart: Mart) -> None:
    statements = [statement.replace("{table}", f"mart.{name(mart.name)}") for statement in mart.refresh]
    connection.execute(
        b"INSERT INTO ops.mart_definition (name, hash, resource_types, refresh_sql, built_at, problem) "
        b"VALUES (%s, %s, %s, %s, now(), NULL) ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, "
        b"resource_types = excluded.resource_types, refresh_sql = excluded.refresh_sql, built_at = now(), "
        b"problem = NULL",
        (mart.name, _hash(mart), list(mart.reads), statements),
    )


@contextmanager
def _told(mart: Mart) -> Iterator[None]:
    """Turn what Postgres says of a mart's statements into the error that names the mart."""
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        raise Transient(f"mart {mart.name}: readers hold its table; the old one stays, apply again") from None
    except (psycopg.errors.DependentObjectsStillExist, psycopg.ProgrammingError) as error:
        why = error.diag.message_primary or f"SQLSTATE {error.sqlstate}"
        raise ConfigError(f"mart {mart.name}: {why}; the marts stay as they were") from None
