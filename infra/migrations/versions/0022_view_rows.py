"""How many rows of core come from each delivery."""

from infra.migrations import run_sql

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Make the table that publishing counts in."""
    run_sql("0022_view_rows.sql")


def downgrade() -> None:
    """Leave it: it is made again where it is missing."""
