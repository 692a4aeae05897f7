"""`sluice status --late`: what did not come as its feed expects it, by the ledger alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tasks.errors import ConfigError
from tasks.feed import good_feeds
from tasks.ledger import expectations
from tasks.ledger.db import connect
from tasks.settings import settings


def late_rows(tell: Callable[[str, ConfigError], object]) -> list[dict[str, Any]]:
    """Return one row for each thing that is not as expected, by feed and day; `tell` gets the feeds with mistakes."""
    now = datetime.now(UTC)
    with connect(settings().warehouse_url) as connection:
        return [
            expectations.as_row(one)
            for feed in good_feeds(tell)
            for one in expectations.not_as_expected(connection, feed, now)
        ]
