"""Rows that are packed by hand arrive as psycopg's own dumpers would have sent them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import repeat
from typing import Any

from tasks.ledger import binary
from tasks.ledger.db import connect

COLUMNS = "n int8, word text, said text, hash bytea, truth bool, at timestamptz, names text[], marks int8[]"
ROWS = [
    (-(2**63), "Patient", "Łódź ✓", b"\0\xff", True, datetime(2024, 3, 10, 2, 30, 0, 123456, UTC), ["a", ""], [-1, 2]),
    (7, "", None, None, False, datetime(1887, 1, 1, tzinfo=timezone(timedelta(hours=-5, minutes=-30))), [], []),
]


def packed(row: tuple[Any, ...]) -> bytes:
    n, word, said, digest, truth, at, names, marks = row
    fields = (
        binary.number(n),
        binary.word(word),
        binary.raw(None if said is None else said.encode()),
        binary.raw(digest),
        binary.boolean(truth),
        binary.instant(at),
        binary.texts(tuple(names)),
        binary.numbers(tuple(marks)),
    )
    return b"".join(fields)


def test_every_kind_of_field_arrives_as_it_was(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection, connection.transaction(force_rollback=True):
        connection.execute(f"create temp table told ({COLUMNS})")
        assert binary.copy_rows(connection, "copy told from stdin (format binary)", 8, map(packed, ROWS)) == len(ROWS)
        assert sorted(connection.execute("select * from told").fetchall()) == sorted(ROWS)


def test_more_rows_than_are_sent_at_once_arrive_and_none_does_too(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection, connection.transaction(force_rollback=True):
        connection.execute("create temp table told (said text)")
        copy = "copy told from stdin (format binary)"
        assert binary.copy_rows(connection, copy, 1, iter(())) == 0
        assert binary.copy_rows(connection, copy, 1, repeat(binary.raw(b"x" * 100), 2000)) == 2000
        assert connection.execute("select count(*), min(said) = max(said) from told").fetchone() == (2000, True)
