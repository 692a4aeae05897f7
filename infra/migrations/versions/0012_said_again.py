"""Staged resources stay text until they are written; what is said again is remembered beside its version."""

from infra.migrations import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Change the staging table and add the other one."""
    run_sql("0012_said_again.sql")


def downgrade() -> None:
    """Refuse: what was heard since would be forgotten."""
    message = "restore a backup instead: what was said again must stay known"
    raise NotImplementedError(message)
