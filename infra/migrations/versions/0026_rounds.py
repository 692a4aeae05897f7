"""What is being written into files is kept until it is noted."""

from alembic import op

from infra.migrations import run_sql

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Make the table."""
    run_sql("0026_rounds.sql")


def downgrade() -> None:
    """Take it away: what was being written is then written again with what came since."""
    op.execute("drop table ledger.round")
