"""Connections to the ledger's Postgres, and its errors without the values that they would carry."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tasks.errors import Permanent, SluiceError, Transient

Connection = psycopg.Connection[tuple[Any, ...]]

STUCK_SECONDS = 300
"""After how long a transaction in which nothing happens is ended; the fold of a large batch takes a few seconds."""

RETRYABLE = ("08", "40", "53", "57")
"""SQLSTATE classes that a later try may not meet: connection, rollback, resources, operator."""


@contextmanager
def connect(url: str, name: str = "sluice") -> Iterator[Connection]:
    """Yield a connection in autocommit mode; raises `Transient` or `Permanent` with the SQLSTATE alone.

    A Postgres error carries the row that it stumbled over (DETAIL, CONTEXT), so it never leaves this block.
    """
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=10, application_name=name) as connection:
            # a process that is frozen in the middle of a transaction must not keep its locks for ever
            connection.execute(f"set idle_in_transaction_session_timeout = '{STUCK_SECONDS}s'")
            yield connection
    except psycopg.Error as error:
        raise translate(error) from None


def translate(error: psycopg.Error) -> SluiceError:
    """Return our error for one of Postgres: its SQLSTATE, the table or constraint, and what to do, never a value."""
    state = error.sqlstate
    if state is None:
        return Transient("Postgres does not answer; see `sluice status`, nothing was committed")
    place = error.diag.constraint_name or error.diag.table_name or ""
    if state[:2] == "42":
        # the statement itself is wrong: its message names relations and columns, never a row
        place = error.diag.message_primary or place
    text = f"Postgres refused with SQLSTATE {state}{' at ' + place if place else ''}; nothing was committed"
    return Transient(text) if state[:2] in RETRYABLE else Permanent(text)
