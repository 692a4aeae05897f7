"""Facts that several records say in the same words, and full deliveries."""

from infra.migrations import run_sql

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the table and the column."""
    run_sql("0019_repeated.sql")


def downgrade() -> None:
    """Refuse: a retraction would take away what others still say."""
    message = "who else says a fact must stay known"
    raise NotImplementedError(message)
