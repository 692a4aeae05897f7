"""The parts of divided tables: one a year, and one for times that are absent or of years with few rows.

A year gets its part when a table is built, by `views apply` and by upkeep; until then its rows are in the default part,
so a time that nobody expected stops nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from mappings.engine.views.quoting import name
from tasks.publish.view_state import PUBLISHING
from tasks.publish.view_table import ViewTable

Connection = psycopg.Connection[Any]

_PATIENCE = "2s"
_DIVIDED = b"""
SELECT p.partrelid::regclass::text FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
WHERE c.relnamespace = to_regnamespace('core') AND c.relname NOT LIKE '%\\_\\_new' ORDER BY 1
"""
_YEARS = b"""
SELECT coalesce(array_agg(substring(c.relname from '_(\\d+)$')::int), '{}')
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass(%s) AND c.relname ~ '_\\d+$'
"""


def prepare(connection: Connection, table: ViewTable) -> None:
    """Give the table that is being built the parts that the old one has, and those that its own rows want."""
    if table.moment is not None:
        row = connection.execute(_YEARS, (table.relation,)).fetchone()
        connection.execute(b"SELECT ops.divide(%s::regclass, years => %s)", (table.building, row[0] if row else []))


def divide(connection: Connection, table: ViewTable) -> None:
    """Give years that have become many rows since the build parts of their own."""
    if table.moment is not None:
        _divide(connection, f"core.{name(table.name)}")


def divide_all(connection: Connection) -> int:
    """Do so for every divided table; return how many parts were made."""
    return sum(_divide(connection, relation) for (relation,) in connection.execute(_DIVIDED).fetchall())


def _divide(connection: Connection, relation: str) -> int:
    """Divide one table, and leave it for the next time where readers hold it: they must not hold up publishing."""
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        connection.execute(f"SET LOCAL lock_timeout = '{_PATIENCE}'".encode())
        connection.execute(PUBLISHING)
        row = connection.execute(b"SELECT ops.divide(%s::regclass)", (relation,)).fetchone()
        return int(row[0]) if row else 0
    return 0
