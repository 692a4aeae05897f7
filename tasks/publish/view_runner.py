"""Runs a view in Postgres over resources that no table holds: for conformance, and to compare the two runners."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from mappings.engine.json import dumps, loads
from mappings.engine.views import View, ViewError
from tasks.publish.view_table import reason

_SOURCE = "pg_temp.sluice_view_source"


def rows_in_postgres(
    connection: psycopg.Connection[Any], view: View, resources: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return a view's rows as Postgres computes them; leaves nothing behind.

    Raises `ViewError` where a resource does not fit the view.
    """
    sql = view.sql(_SOURCE)
    set_json_loads(loads, connection)
    try:
        with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute(f"CREATE TEMP TABLE {_SOURCE.split('.')[1]} (resource_type text, id text, resource jsonb)")
            with cursor.copy(f"COPY {_SOURCE} FROM STDIN") as copy:
                for resource in resources:
                    copy.write_row((resource.get("resourceType"), resource.get("id"), dumps(resource).decode()))
            return cursor.execute(sql.encode()).fetchall()
    except psycopg.DataError as error:
        raise ViewError(view.name or "ViewDefinition", reason(error)) from None
