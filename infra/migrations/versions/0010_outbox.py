"""Destinations' pauses, and the records that wait for each row of the outbox."""

from infra.migrations import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table, the column and the view."""
    run_sql("0010_outbox.sql")


def downgrade() -> None:
    """Refuse: which records a destination refused would be forgotten."""
    message = "the outbox keeps which records wait; restore a backup instead"
    raise NotImplementedError(message)
