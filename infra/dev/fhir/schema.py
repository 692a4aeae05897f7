"""The tables of one server instance, in a Postgres schema of its own (PostgreSQL 14 or later, no extension).

- `version` holds every version of every resource. A row says from when to when it was the current one, so that a
  search, a history or an export can be answered as of one moment for as long as it takes to page through it.
- `term` is the search index: a keyed digest of what can be asked for, and the version that answers.
- `clock` has one row. Each write takes it for its transaction: writers come one after another, `vid` and
  `lastUpdated` rise in the order of commits, and nothing that commits later is older than what somebody has read.
"""

from __future__ import annotations

import re

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool

from tasks.errors import ConfigError

TABLES = """
CREATE TABLE IF NOT EXISTS clock (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), last timestamptz(3) NOT NULL, vid bigint NOT NULL);
INSERT INTO clock (last, vid) VALUES ('2000-01-01Z', 0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS version (
    vid bigint PRIMARY KEY, type text NOT NULL, id text NOT NULL, version integer NOT NULL,
    updated timestamptz(3) NOT NULL, superseded timestamptz(3) NOT NULL DEFAULT 'infinity',
    method text NOT NULL, deleted boolean NOT NULL, digest bytea, content json,
    UNIQUE (type, id, version));
CREATE UNIQUE INDEX IF NOT EXISTS version_current ON version (type, id) WHERE superseded = 'infinity';
CREATE INDEX IF NOT EXISTS version_in_order ON version (type, vid);
CREATE TABLE IF NOT EXISTS term (term uuid NOT NULL, vid bigint NOT NULL, PRIMARY KEY (term, vid));
CREATE INDEX IF NOT EXISTS term_of_version ON term (vid);
CREATE TABLE IF NOT EXISTS export (
    id uuid PRIMARY KEY, created timestamptz NOT NULL DEFAULT now(), state text NOT NULL DEFAULT 'accepted',
    progress integer NOT NULL DEFAULT 0, request json NOT NULL, at timestamptz(3) NOT NULL, expires timestamptz);
CREATE TABLE IF NOT EXISTS export_file (
    export uuid NOT NULL REFERENCES export ON DELETE CASCADE, name text NOT NULL, kind text NOT NULL,
    type text NOT NULL, lines integer NOT NULL, first bigint NOT NULL, last bigint NOT NULL,
    PRIMARY KEY (export, name));
"""


def open_pool(database_url: str, schema: str, size: int = 8) -> ConnectionPool:
    """Return a pool whose connections work in `schema`, which is created with its tables where it is missing.

    Raises `ConfigError` for a schema's name that is not a plain one or a database that does not answer.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise ConfigError("the schema's name is not plain lower-case letters, digits and _: choose another one")
    _create(database_url, schema)
    options = {"options": f"-c search_path={schema} -c timezone=UTC", "autocommit": True}
    pool = ConnectionPool(database_url, kwargs=options, min_size=1, max_size=size, open=False, name=f"fhir {schema}")
    pool.open()
    return pool


def _create(database_url: str, schema: str) -> None:
    try:
        with psycopg.connect(database_url) as connection:
            connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"fhir {schema}",))
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
            connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
            connection.execute("SET LOCAL client_min_messages TO warning")
            connection.execute(TABLES)
    except psycopg.OperationalError:
        raise ConfigError("the FHIR server's database does not answer: start it, or mend its URL") from None
