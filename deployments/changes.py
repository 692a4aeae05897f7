"""Configuration changes in the audit trail: what was deployed with what content, by whom.

A feed counts with its file and its maps; destinations and checks with their files. Values of connections and keys are
never looked at: they are the environment's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from deployments.lab import deployed
from tasks import feed as feeds
from tasks.destinations import destination_files
from tasks.gate.gate import CHECKS
from tasks.ledger import audit
from tasks.ledger.db import Connection, connect
from tasks.settings import actor, settings


def note_changes(names: Iterable[str]) -> list[str]:
    """Append a row for everything that differs from what was deployed last, and keep what the feeds are now.

    Returns the subjects of the rows, as `feed:northside.adt` or `destination:ehr`.
    """
    changed = []
    with connect(settings().warehouse_url) as connection:
        for subject, content in [*_feeds(connection, names), *_files()]:
            reason = f"deployed with content {content}"
            before = [act.reason for act in audit.acts(connection, "configure", subject)]
            if before[-1:] != [reason]:
                audit.append(connection, actor(), "configure", subject, reason)
                changed.append(subject)
    return changed


def _feeds(connection: Connection, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    files = feeds.feed_files()
    for name in names:
        now = deployed.pack(feeds.load(name), files[name])
        deployed.remember(connection, name, actor(), now)
        yield f"feed:{name}", now.digest


def _files() -> Iterator[tuple[str, str]]:
    checks = {path.stem: path for path in sorted(CHECKS.glob("*.yaml"))}
    for kind, files in (("destination", destination_files()), ("checks", checks)):
        for name, path in files.items():
            yield f"{kind}:{name}", _digest(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
