"""The analysts' tables inside the publishing transaction: every view of `mappings/views`, then every mart."""

from __future__ import annotations

from tasks.core_marts import core_marts
from tasks.core_views import core_views
from tasks.ledger.db import Connection
from tasks.publish import marts
from tasks.publish import views as tables


def refresh(connection: Connection, changed: str) -> None:
    """Bring the tables up to date for the (resource_type, id, old_version) in the relation `changed`."""
    tables.refresh(connection, changed)
    marts.refresh_marts(connection, changed)


def apply(connection: Connection) -> list[str]:
    """Make the tables that views and marts describe, those anew that have changed; return the names of the built."""
    built = tables.ensure_tables(connection, core_views().values())
    made = marts.ensure_marts(connection, core_marts(), built)
    return [*(f"core.{table}" for table in built), *(f"mart.{mart}" for mart in made)]
