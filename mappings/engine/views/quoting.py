"""Literals and names inside SQL: the only way by which anything of a view gets there."""

from __future__ import annotations

import json
from decimal import Decimal


def literal(text: str) -> str:
    """Return `text` as a string constant that means the same under every setting of the server.

    Raises `ValueError` for a character that Postgres cannot hold.
    """
    _check(text)
    quoted = text.replace("'", "''")
    if "\\" in text:
        return " E'" + quoted.replace("\\", "\\\\") + "'"
    return f"'{quoted}'"


def name(text: str) -> str:
    """Return `text` as a quoted identifier; raises `ValueError` where it is longer than 63 bytes."""
    if len(text.encode()) > 63:
        raise ValueError(f"name {text!r} is longer than Postgres' 63 bytes")
    return '"' + text.replace('"', '""') + '"'


def json_literal(value: str | bool | int | Decimal) -> str:
    """Return a string, number or boolean as a jsonb constant."""
    text = json_string(value) if isinstance(value, str) else str(value).lower()
    return f"{literal(text)}::jsonb"


def json_string(text: str) -> str:
    """Return `text` as a JSON string, which is a string or key inside a jsonpath too."""
    _check(text)
    return json.dumps(text, ensure_ascii=False)


def _check(text: str) -> None:
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise ValueError("a string holds a character that a database cannot (NUL or half of a surrogate pair)")
