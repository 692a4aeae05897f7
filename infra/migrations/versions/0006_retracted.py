"""Records whose statements were taken back, and indexes that retraction and the outbox ask for."""

from infra.migrations import run_sql

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table and the indexes."""
    run_sql("0006_retracted.sql")


def downgrade() -> None:
    """Refuse: a replay must not bring back what a correction took away."""
    message = "what was retracted must stay known"
    raise NotImplementedError(message)
