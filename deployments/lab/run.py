"""One run of the lab: the corpus converted by the feed as it stands, and compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployments.lab import corpus, deployed
from deployments.lab.compare import Difference, compare
from deployments.lab.corpus import Case
from tasks.feed import load
from tasks.ledger.db import connect
from tasks.settings import settings

SNAPSHOT, DEPLOYED = "Against the snapshot", "Against what is deployed"


@dataclass(frozen=True, slots=True)
class Lab:
    """What a run of the lab found; differences are None where there was nothing to compare with."""

    feed: str
    cases: Sequence[Case]
    snapshot: Sequence[Difference] | None
    deployed: Sequence[Difference] | None

    def against(self) -> Iterator[tuple[str, Sequence[Difference] | None]]:
        """Yield title and differences of each comparison."""
        yield SNAPSHOT, self.snapshot
        yield DEPLOYED, self.deployed


def try_feed(name: str, folder: Path, *, with_deployed: bool) -> Lab:
    """Convert a corpus and compare; raises `ConfigError` for a mistake in the feed, its maps or the corpus.

    What is deployed is asked of the ledger, and only then is a Postgres needed.
    """
    feed = load(name)
    cases = list(corpus.cases(feed, folder))
    stored = corpus.snapshot(folder)
    differences = None if stored is None else compare(stored, cases)
    if not with_deployed:
        return Lab(feed.name, cases, differences, None)
    with connect(settings().warehouse_url) as connection:
        before = deployed.known(connection, feed.name)
    return Lab(feed.name, cases, differences, compare(deployed.cases(before, feed.name, folder), cases))
