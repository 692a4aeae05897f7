"""Rows as a COPY in Postgres' binary format takes them, packed by hand: psycopg's dumpers take longer than the rest.

A field is its length and its bytes; what comes again in row after row is packed once. Source: PostgreSQL's
documentation of COPY, "Binary Format", and `array_send` in arrayfuncs.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from struct import Struct

from tasks.ledger.db import Connection

NULL = b"\xff\xff\xff\xff"

_TEXT, _INT8 = 25, 20
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_BEGIN, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_AT_ONCE = 1 << 16
"""Bytes that are handed to the connection at once."""

_length = Struct(">i").pack
_head = Struct(">iii").pack
_dimension = Struct(">ii").pack
_number = Struct(">iq").pack
_fields = Struct(">h").pack
_BOOLEANS = (b"\0\0\0\1\0", b"\0\0\0\1\1")


def copy_rows(connection: Connection, statement: str, columns: int, rows: Iterable[bytes]) -> int:
    """Write rows, each the joined fields of its columns, by a COPY `with (format binary)`; return how many."""
    head, count = _fields(columns), 0
    parts, size = [_BEGIN], 0
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            count += 1
            parts += (head, row)
            size += len(row)
            if size > _AT_ONCE:
                copy.write(b"".join(parts))
                parts, size = [], 0
        copy.write(b"".join((*parts, _END)))
    return count


def raw(value: bytes | None) -> bytes:
    """Return a field of bytea, or of UTF-8 text."""
    return NULL if value is None else _length(len(value)) + value


def number(value: int) -> bytes:
    """Return a field of bigint."""
    return _number(8, value)


def boolean(value: bool) -> bytes:
    """Return a field of boolean."""
    return _BOOLEANS[value]


@lru_cache(4096)
def word(value: str) -> bytes:
    """Return a field of text that comes again."""
    return raw(value.encode())


@lru_cache(4096)
def instant(value: datetime) -> bytes:
    """Return a field of timestamptz; raises `TypeError` for a time without an offset."""
    past = value - _EPOCH
    return _number(8, (past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds)


@lru_cache(4096)
def texts(items: tuple[str, ...]) -> bytes:
    """Return a field of an array of text."""
    return _array(_TEXT, [word(item) for item in items])


@lru_cache(4096)
def numbers(items: tuple[int, ...]) -> bytes:
    """Return a field of an array of bigint."""
    return _array(_INT8, [number(item) for item in items])


def _array(kind: int, items: list[bytes]) -> bytes:
    if not items:
        return raw(_head(0, 0, kind))
    return raw(b"".join((_head(1, 0, kind), _dimension(len(items), 1), *items)))
