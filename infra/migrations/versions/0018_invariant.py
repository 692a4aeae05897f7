"""The ledger is sound where a delivery holds no record."""

from infra.migrations import run_sql

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Replace the view."""
    run_sql("0018_invariant.sql")


def downgrade() -> None:
    """Leave the view: what it said before was wrong."""
