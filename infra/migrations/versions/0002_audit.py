"""The audit trail, and the indexes by which a run's batches and a resource's outbox are found."""

from infra.migrations import run_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the trail."""
    run_sql("0002_audit.sql")


def downgrade() -> None:
    """Refuse: a trail that can be dropped proves nothing."""
    message = "the audit trail is not dropped by a migration; restore a backup instead"
    raise NotImplementedError(message)
