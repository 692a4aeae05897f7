"""The role that flows and listeners connect as."""

from infra.migrations import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Make the role and grant what it needs."""
    run_sql("0015_loader.sql")


def downgrade() -> None:
    """Refuse: a role that logins are members of is not dropped."""
    message = "revoke sluice_loader from its logins and drop it by hand"
    raise NotImplementedError(message)
