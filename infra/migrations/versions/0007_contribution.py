"""Contributions by record, of which the fold reads those that count; facts that came late in a table of their own."""

from infra.migrations import run_sql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Put what was kept by field together by record."""
    run_sql("0007_contribution.sql")


def downgrade() -> None:
    """Refuse: the fold reads the new form."""
    message = "restore a backup instead: the fold does not read the older form"
    raise NotImplementedError(message)
