"""What the marts stand on, and the ledger as operators ask it."""

from infra.migrations import run_sql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add functions, tables and views."""
    run_sql("0013_mart.sql")


def downgrade() -> None:
    """Refuse: the marts stand on it."""
    message = "drop the schema mart first"
    raise NotImplementedError(message)
