"""The warehouse's schema, migrated by Alembic; the statements themselves are SQL files beside the versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command, op
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

HERE = Path(__file__).parent


def upgrade(url: str, to: str = "head") -> None:
    """Bring the database at `url` to the newest schema, or to a revision; safe to call by several at once."""
    with _migrating(url) as config:
        command.upgrade(config, to)


def downgrade(url: str, to: str) -> None:
    """Take the database at `url` back to an older revision."""
    with _migrating(url) as config:
        command.downgrade(config, to)


@contextmanager
def _migrating(url: str) -> Iterator[Config]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"), hide_parameters=True)
    config = Config()
    config.set_main_option("script_location", str(HERE))
    try:
        with engine.begin() as connection:
            # one process migrates, others wait and then find nothing to do
            connection.execute(text("select pg_advisory_xact_lock(hashtextextended('sluice:migrate', 0))"))
            config.attributes["connection"] = connection
            yield config
    finally:
        engine.dispose()


def run_sql(*names: str) -> None:
    """Run SQL files of `versions/` inside the migration's transaction, past any parameter syntax."""
    connection = op.get_bind().connection.dbapi_connection
    assert isinstance(connection, psycopg.Connection)  # noqa: S101
    for name in names:
        connection.execute((HERE / "versions" / name).read_text().encode())
