"""Roles that read: analysts the tables, operators the ledger, those who mend maps the unmapped codes."""

from infra.migrations import run_sql

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the roles where the one who migrates may, and grant to those that are there."""
    run_sql("0005_roles.sql")


def downgrade() -> None:
    """Refuse: roles may be in use by other databases of the server."""
    message = "roles are not dropped by a migration"
    raise NotImplementedError(message)
