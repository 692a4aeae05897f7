"""Erasure, an audit trail that its owner cannot change either, and what lineage asks for."""

from infra.migrations import run_sql

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the tables and the indexes."""
    run_sql("0008_erasure.sql")


def downgrade() -> None:
    """Refuse: a replay must not bring back what was erased."""
    message = "what was erased must stay known"
    raise NotImplementedError(message)
