"""Who says a fact again is added, not looked up."""

from alembic import op

from infra.migrations import run_sql

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Make the key an index."""
    run_sql("0025_said_again.sql")


def downgrade() -> None:
    """Make the index the key again; of what a record said twice one row stays."""
    op.execute(
        """
        delete from fhir.said_again a using fhir.said_again b
        where b.id = a.id and b.resource_type = a.resource_type and b.record_id = a.record_id and b.ctid < a.ctid;
        drop index fhir.said_again_thing;
        alter table fhir.said_again add primary key (id, resource_type, record_id);
        """
    )
