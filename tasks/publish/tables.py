"""The analysts' tables inside the publishing transaction: every view of `mappings/views`, for what changed."""

from __future__ import annotations

from tasks.core_views import core_views
from tasks.ledger.db import Connection
from tasks.publish import views as tables


def refresh(connection: Connection, changed: str) -> None:
    """Bring the tables up to date for the (resource_type, id) in the relation `changed`."""
    tables.refresh(connection, changed)


def apply(connection: Connection) -> list[str]:
    """Make the tables that the views describe, rebuild those whose view has changed; return the names of the built."""
    return tables.ensure_tables(connection, core_views().values())
