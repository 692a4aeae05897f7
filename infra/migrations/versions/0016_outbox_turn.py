"""One index fewer on the outbox."""

from infra.migrations import run_sql

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Drop it."""
    run_sql("0016_outbox_turn.sql")


def downgrade() -> None:
    """Leave it dropped: nothing reads it."""
