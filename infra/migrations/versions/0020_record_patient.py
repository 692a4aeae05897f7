"""Which record speaks of which patients."""

from alembic import op

from infra.migrations import run_sql

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the table and fill it from the store; staged batches are filled when they are published or staged again."""
    run_sql("0020_record_patient.sql")


def downgrade() -> None:
    """Drop the table: an erasure finds the same by reading."""
    op.execute("drop table ledger.record_patient; alter table staging.resource drop column patients")
