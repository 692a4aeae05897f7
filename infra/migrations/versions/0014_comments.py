"""A comment on every column."""

from infra.migrations import run_sql

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the comments that are missing."""
    run_sql("0014_comments.sql")


def downgrade() -> None:
    """Leave them: they change nothing."""
