"""The ledger and the FHIR store."""

from infra.migrations import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the schemas."""
    run_sql("0001_ledger.sql", "0001_store.sql")


def downgrade() -> None:
    """Refuse: the ledger is the truth and is not dropped by a migration."""
    message = "there is nothing below the first migration"
    raise NotImplementedError(message)
