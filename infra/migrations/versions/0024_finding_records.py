"""Which records of a batch a finding was counted in."""

from infra.migrations import run_sql

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Let a finding know its records; those counted before do not."""
    run_sql("0024_finding_records.sql")


def downgrade() -> None:
    """Leave it: nothing that is older reads it."""
