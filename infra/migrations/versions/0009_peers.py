"""Systems that are read and written: names, echoes, notices."""

from infra.migrations import run_sql

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the tables and the receipts' column."""
    run_sql("0009_peers.sql")


def downgrade() -> None:
    """Refuse: without what was written where, echoes would be taken for news."""
    message = "what Sluice wrote at a peer must stay known"
    raise NotImplementedError(message)
