"""A site for chaos without an orchestrator: partners drop into folders, and a warehouse somewhere takes it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from infra.chaos.feeds import PUSHED, texts
from infra.chaos.workload import Round
from infra.chaos.world import World

FEEDS = texts(
    "kind: directory, connection: drop, path: hl7, ready: {stable_polls: 1}, after: archive",
    'kind: directory, connection: drop, path: csv, match: "**/*.csv", ready: {stable_polls: 1}, after: leave',
    "receipts",
)


class Site(World):
    """A world whose partners drop into folders."""

    def drop(self, one: Round) -> None:
        """Let a partner drop a round's file; what has its name is replaced, and is seen to be another."""
        place = self.folder / "drop" / one.feed / one.name
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name}.part")
        part.write_bytes(one.data)
        part.replace(place)

    def given(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.folder / "drop" / "receipts").iterdir()}


def site_on(folder: Path, url: str, feeds: Path, server: tuple[str, str]) -> Site:
    """Return a site on a warehouse, with folders of its own."""
    drop = folder / "drop"
    for part in ("hl7", "csv", "receipts"):
        (drop / part).mkdir(parents=True)
    env = {
        "SLUICE_HOME": str(folder / "home"),
        "SLUICE_FEEDS": str(feeds),
        "SLUICE_WAREHOUSE_URL": url,
        "SLUICE_LANDING_KEY": "test:" + base64.b64encode(b"k" * 32).decode(),
        "SLUICE_BATCH_RECORDS": "5",
        "SLUICE_CONNECTION_DROP": json.dumps({"root": str(drop)}),
        "SLUICE_CONNECTION_EHR": json.dumps({"base_url": server[1]}),
    }
    return Site(folder, tuple(FEEDS), PUSHED, env, url, (server[0], "ehr"))
