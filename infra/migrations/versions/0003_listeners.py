"""What listeners land."""

from infra.migrations import run_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the tables of segments and arrivals."""
    run_sql("0003_listeners.sql")


def downgrade() -> None:
    """Refuse: what was acknowledged is not dropped by a migration."""
    message = "acknowledged messages are not dropped; restore a backup instead"
    raise NotImplementedError(message)
