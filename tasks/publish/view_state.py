"""What is known of the tables of core beside themselves: definitions, what a build has to catch up with, counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg

PUBLISHING = b"SELECT pg_advisory_xact_lock(hashtextextended('sluice:publish', 0))"
"""Waits until no publication is going on, and lets none begin before the transaction ends."""

_STATE = (Path(__file__).parent / "view_state.sql").read_bytes()
_COLUMNS = re.findall(r"ADD COLUMN IF NOT EXISTS (\w+)", _STATE.decode())
_MADE = b"""
SELECT %s <@ ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('ops.view_definition'))
   AND to_regclass('ops.view_rows') IS NOT NULL AND to_regproc('ops.divide') IS NOT NULL
"""


def ensure_state(connection: psycopg.Connection[Any]) -> None:
    """Make what is missing of it, as the owner of the schemas."""
    # ALTER TABLE that changes nothing waits all the same for every publishing transaction, and holds up those after it
    if connection.execute(_MADE, (_COLUMNS,)).fetchone() != (True,):
        connection.execute(_STATE)
