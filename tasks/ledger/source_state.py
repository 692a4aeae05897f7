"""What a source remembers between polls, kept in the ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.ledger import notices
from tasks.ledger.db import Connection
from tasks.model import Notice


class LedgerState:
    """A feed's sightings, landed names and cursor (`tasks.source.port.SourceState`)."""

    def __init__(self, connection: Connection, feed: str) -> None:
        self.connection = connection
        self.feed = feed

    def sighted(self, name: str, version: str) -> int:
        """Note that `name` was seen with `version`; return in how many polls in a row, this one included."""
        row = self.connection.execute(
            """
            insert into ledger.sighting as s (feed, name, version, polls) values (%s, %s, %s, 1)
            on conflict (feed, name) do update
                set polls = case when s.version = excluded.version then s.polls + 1 else 1 end,
                    version = excluded.version, seen_at = now()
            returning polls
            """,
            (self.feed, name, version),
        ).fetchone()
        assert row is not None  # noqa: S101
        return int(row[0])

    def landed(self, name: str, version: str) -> bool:
        """Say whether this version of `name` has been landed already."""
        row = self.connection.execute(
            "select from ledger.delivery where feed = %s and name = %s and version = %s and state <> 'landing'",
            (self.feed, name, version),
        ).fetchone()
        return row is not None

    def cursor(self) -> Mapping[str, Any]:
        """Return the cursor as last saved; empty at first."""
        row = self.connection.execute("select value from ledger.cursor where feed = %s", (self.feed,)).fetchone()
        return row[0] if row else {}

    def save(self, cursor: Mapping[str, Any]) -> None:
        """Keep `cursor` durably."""
        self.connection.execute(
            """
            insert into ledger.cursor (feed, value) values (%s, %s)
            on conflict (feed) do update set value = excluded.value, updated_at = now()
            """,
            (self.feed, json.dumps(dict(cursor))),
        )

    def notices(self) -> Sequence[Notice]:
        """Return what a listener was told has changed at the source, the oldest first."""
        return [Notice(*row) for row in notices.waiting(self.connection, self.feed)]

    def noticed(self, numbers: Sequence[int]) -> None:
        """Forget notices: what they tell of was landed."""
        notices.forget(self.connection, self.feed, numbers)
