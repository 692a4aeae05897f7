"""One index less on the outbox."""

from infra.migrations import run_sql

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Begin the key with the resource."""
    run_sql("0021_outbox_key.sql")


def downgrade() -> None:
    """Leave the key: it is the same one in another order."""
