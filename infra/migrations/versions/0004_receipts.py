"""Receipts and expectations."""

from infra.migrations import run_sql

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what partners are told, and the indexes that find what did not come."""
    run_sql("0004_receipts.sql")


def downgrade() -> None:
    """Refuse: a receipt that was given is not taken back."""
    message = "receipts that were given are not dropped; restore a backup instead"
    raise NotImplementedError(message)
