"""Rows of who is spoken of are added, not looked up."""

from alembic import op

from infra.migrations import run_sql

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Make the key an index."""
    run_sql("0023_spoken.sql")


def downgrade() -> None:
    """Make the index the key again."""
    op.execute(
        """
        delete from ledger.record_patient p using ledger.record_patient q
        where q.patient = p.patient and q.record_id = p.record_id and q.ctid < p.ctid;
        drop index ledger.record_patient_patient;
        alter table ledger.record_patient add primary key (patient, record_id);
        """
    )
