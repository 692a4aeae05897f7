"""Puts a newly built table in the place of the old one, with whatever stands on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from mappings.engine.views.quoting import name
from tasks.errors import ConfigError

Connection = psycopg.Connection[Any]

_DEPENDENTS = """
WITH RECURSIVE found(oid, depth) AS (
    SELECT DISTINCT w.ev_class, 1 FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s::regclass
      AND w.ev_class <> d.refobjid
    UNION
    SELECT w.ev_class, found.depth + 1 FROM found
    JOIN pg_depend d ON d.refobjid = found.oid
        AND d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid WHERE w.ev_class <> d.refobjid
)
SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind::text, pg_get_viewdef(c.oid), max(found.depth)
FROM found JOIN pg_class c ON c.oid = found.oid JOIN pg_namespace n ON n.oid = c.relnamespace
GROUP BY c.oid, n.nspname, c.relname, c.relkind ORDER BY max(found.depth)
"""
_COMMENTS = """
SELECT CASE WHEN d.objsubid = 0
            THEN format('COMMENT ON %%s %%s IS %%L', %s::text, %s::text, d.description)
            ELSE format('COMMENT ON COLUMN %%s.%%I IS %%L', %s::text, a.attname, d.description) END
FROM pg_description d LEFT JOIN pg_attribute a ON a.attrelid = d.objoid AND a.attnum = d.objsubid
WHERE d.classoid = 'pg_class'::regclass AND d.objoid = %s
"""
_GRANTS = """
SELECT format('GRANT %%s ON %%s TO %%s%%s', x.privilege_type, %s::text,
              CASE WHEN x.grantee = 0 THEN 'PUBLIC' ELSE x.grantee::regrole::text END,
              CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = %s::regclass AND x.grantee <> c.relowner
"""

_PARTS = """
SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass
"""


@dataclass(frozen=True, slots=True)
class Replacement:
    """A table and what is built to take its place; `renames` are the indexes' names while building and afterwards."""

    schema: str
    name: str
    renames: tuple[tuple[str, str], ...] = ()

    @property
    def relation(self) -> str:
        """The table's name in SQL."""
        return f"{self.schema}.{name(self.name)}"

    @property
    def building(self) -> str:
        """The name, in SQL, of what is built."""
        return f"{self.schema}.{name(f'{self.name}__new')}"


@dataclass(frozen=True, slots=True)
class Dependent:
    """A view or materialized view that reads the table, and the statements that make it again."""

    relation: str
    kind: str
    statements: tuple[str, ...]


def swap(connection: Connection, table: Replacement) -> None:
    """Rename the built table into its place inside the caller's transaction; views on the old one are made again on it.

    Raises `ConfigError` where one of them does not fit the new columns; nothing is changed then.
    """
    parts = _column(connection, _PARTS, (table.building,))
    found = connection.execute(b"SELECT to_regclass(%s)", (table.relation,)).fetchone()
    dependents: list[Dependent] = []
    if found is not None and found[0] is not None:
        dependents = _dependents(connection, table.relation)
        for grant in _column(connection, _GRANTS, (table.building, table.relation)):
            connection.execute(grant.encode())
        for dependent in reversed(dependents):
            connection.execute(f"DROP {dependent.kind} {dependent.relation}".encode())
        connection.execute(f"DROP TABLE {table.relation}".encode())
    connection.execute(f"ALTER TABLE {table.building} RENAME TO {name(table.name)}".encode())
    for part in parts:
        own = name(table.name + part.removeprefix(f"{table.name}__new"))
        connection.execute(f"ALTER TABLE {table.schema}.{name(part)} RENAME TO {own}".encode())
    for before, after in table.renames:
        connection.execute(f"ALTER INDEX {table.schema}.{name(before)} RENAME TO {name(after)}".encode())
    for dependent in dependents:
        _remake(connection, dependent, table)


def _dependents(connection: Connection, relation: str) -> list[Dependent]:
    found = []
    for oid, named, relkind, definition, _depth in connection.execute(_DEPENDENTS.encode(), (relation,)).fetchall():
        kind = "MATERIALIZED VIEW" if relkind == "m" else "VIEW"
        statements = [f"CREATE {kind} {named} AS {definition}"]
        statements += _column(
            connection, "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s", (oid,)
        )
        statements += _column(connection, _COMMENTS, (kind, named, named, oid))
        statements += _column(connection, _GRANTS, (named, oid))
        found.append(Dependent(named, kind, tuple(statements)))
    return found


def _column(connection: Connection, query: str, values: tuple[Any, ...]) -> list[str]:
    return [text for (text,) in connection.execute(query.encode(), values).fetchall()]


def _remake(connection: Connection, dependent: Dependent, table: Replacement) -> None:
    try:
        for statement in dependent.statements:
            connection.execute(statement.encode())
    except psycopg.Error as error:
        raise ConfigError(
            f"{table.schema}.{table.name}: {dependent.relation} does not fit its new columns "
            f"({error.diag.message_primary}); the old table stays, change or drop it first"
        ) from None
