"""Configuration changes in the audit trail: which feed file was deployed with what content, by whom."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tasks import feed as feeds
from tasks.ledger import audit
from tasks.ledger.db import connect
from tasks.settings import actor, settings


def note_changes(names: Iterable[str]) -> list[str]:
    """Append a row for every feed whose file differs from what was deployed last; return those feeds' names."""
    files = feeds.feed_files()
    changed = []
    with connect(settings().warehouse_url) as connection:
        for name in names:
            content = f"deployed with content {hashlib.sha256(files[name].read_bytes()).hexdigest()[:16]}"
            before = [act.reason for act in audit.acts(connection, "configure", f"feed:{name}")]
            if before[-1:] != [content]:
                audit.append(connection, actor(), "configure", f"feed:{name}", content)
                changed.append(name)
    return changed
