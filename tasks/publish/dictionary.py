"""The data dictionary: every relation that analysts and operators may read, from the warehouse's own comments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from tasks.ledger.db import Connection

SCHEMAS = ("mart", "core", "ops", "fhir", "ledger", "restricted", "staging")
"""The schemas, those that are asked most first."""

COLUMNS = """
select n.nspname, c.relname, c.relkind::text, coalesce(obj_description(c.oid, 'pg_class'), ''), a.attname,
       format_type(a.atttypid, a.atttypmod), coalesce(col_description(c.oid, a.attnum), ''),
       coalesce(a.attnum = any(k.indkey), false),
       exists (select from pg_index i where i.indrelid = c.oid and i.indkey[0] = a.attnum)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_index k on k.indrelid = c.oid and k.indisprimary
where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition
  and c.relname not like '%%\\_\\_new'
order by array_position(%(schemas)s, n.nspname::text), c.relname, a.attnum
"""
SCHEMA = "select nspname, coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = any(%s)"


def dictionary(connection: Connection, schemas: Iterable[str] = SCHEMAS) -> str:
    """Return the dictionary as Markdown: schemas, relations, columns with type, key, index and meaning."""
    wanted = list(schemas)
    about = {str(row[0]): str(row[1]) for row in connection.execute(SCHEMA, (wanted,)).fetchall()}
    rows = connection.execute(COLUMNS, {"schemas": wanted}).fetchall()
    lines = ["# Data dictionary", "", "Made by `sluice views dictionary` from the comments in the warehouse.", ""]
    lines += ["| schema | what is in it |", "|---|---|"]
    lines += [f"| [{schema}](#{schema}) | {about[schema]} |" for schema in wanted if schema in about]
    for schema, relations in groupby(rows, key=lambda row: row[0]):
        lines += ["", f"## {schema}", "", about[schema]]
        for _, columns in groupby(relations, key=lambda row: row[1]):
            lines += _relation(list(columns))
    return "\n".join(lines) + "\n"


def undescribed(connection: Connection, schemas: Iterable[str] = SCHEMAS) -> list[str]:
    """Return the relations and columns that have no comment."""
    rows = connection.execute(COLUMNS, {"schemas": list(schemas)}).fetchall()
    relations = {f"{row[0]}.{row[1]}" for row in rows if not row[3]}
    return sorted(relations | {f"{row[0]}.{row[1]}.{row[4]}" for row in rows if not row[6]})


def _relation(columns: list[tuple[Any, ...]]) -> list[str]:
    schema, relation, kind, about = columns[0][:4]
    word = "view" if kind == "v" else "table"
    head = ["", f"### {schema}.{relation}", "", f"{about} ({word}).", "", "| column | type | | meaning |"]
    return [*head, "|---|---|---|---|", *(_column(row) for row in columns)]


def _column(row: tuple[Any, ...]) -> str:
    mark = "key" if row[7] else "index" if row[8] else ""
    meaning = str(row[6]).replace("|", "\\|")
    return f"| {row[4]} | {row[5]} | {mark} | {meaning} |"
