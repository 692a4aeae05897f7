"""An index for lineage from the name of a partner's file."""

from alembic import op

from infra.migrations import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the index."""
    run_sql("0017_lineage.sql")


def downgrade() -> None:
    """Drop the index."""
    op.execute("drop index ledger.delivery_name")
