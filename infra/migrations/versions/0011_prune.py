"""Monthly partitions, indexes for what is asked, and the mark of deliveries whose records were pruned."""

from infra.migrations import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the mark, the indexes and the partitions of the coming months."""
    run_sql("0011_prune.sql")


def downgrade() -> None:
    """Refuse: what was pruned is gone, and older versions would miss it."""
    message = "restore a backup instead: records that were pruned do not come back"
    raise NotImplementedError(message)
