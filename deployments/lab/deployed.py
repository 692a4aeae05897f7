"""What was deployed: a feed's file and the mapping files of that moment, kept in the ledger by `sluice deploy`.

Only data is kept (YAML, CSV, JSON), never code: what is asked later is what the maps of then say through the engine of
today, in a process of its own.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployments.lab.corpus import Case
from mappings.engine.json import loads
from tasks.errors import ConfigError, Permanent
from tasks.feed import Feed
from tasks.ledger.db import Connection
from tasks.settings import PROJECT

MAPS = PROJECT / "mappings"
OWN = "own.yaml"
"""The name under which a mapping file is kept that a feed names by its path."""

_KEPT = {".yaml", ".csv", ".json"}


@dataclass(frozen=True, slots=True)
class Deployed:
    """A feed as it was deployed: its file, the maps as a tar, and a hash of both."""

    feed_file: bytes
    maps: bytes
    digest: str


def pack(feed: Feed, path: Path) -> Deployed:
    """Return what deploying a feed now would keep."""
    total, buffer = hashlib.sha256(path.read_bytes()), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, file in _files(feed):
            data = file.read_bytes()
            total.update(name.encode() + b"\0" + data)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return Deployed(path.read_bytes(), buffer.getvalue(), total.hexdigest()[:16])


def _files(feed: Feed) -> Iterator[tuple[str, Path]]:
    overlays = MAPS / "overlays"
    for path in sorted(MAPS.rglob("*")):
        inside = path.relative_to(MAPS)
        foreign = overlays in path.parents and inside.parts[1] != feed.partner
        if path.is_file() and path.suffix in _KEPT and inside.parts[0] not in {"engine", "views"} and not foreign:
            yield str(inside), path
    if feed.mapping.endswith(".yaml"):
        yield OWN, Path(feed.mapping)


def remember(connection: Connection, feed: str, actor: str, found: Deployed) -> bool:
    """Keep what was deployed; say whether it differs from what was deployed before."""
    row = connection.execute("select digest from ledger.deployed where feed = %s", (feed,)).fetchone()
    if row is not None and row[0] == found.digest:
        return False
    connection.execute(
        """
        insert into ledger.deployed (feed, digest, actor, feed_file, maps) values (%s, %s, %s, %s, %s)
        on conflict (feed) do update set digest = excluded.digest, actor = excluded.actor, at = now(),
            feed_file = excluded.feed_file, maps = excluded.maps
        """,
        (feed, found.digest, actor, found.feed_file, found.maps),
    )
    return True


def recall(connection: Connection, feed: str) -> Deployed | None:
    """Return what was deployed last; None where the feed never was."""
    row = connection.execute("select feed_file, maps, digest from ledger.deployed where feed = %s", (feed,)).fetchone()
    return Deployed(bytes(row[0]), bytes(row[1]), row[2]) if row else None


def cases(found: Deployed, feed: str, corpus: Path) -> list[Case]:
    """Return what the deployed feed makes of a corpus; raises `Permanent` where today's engine cannot read its maps."""
    with tempfile.TemporaryDirectory(prefix="sluice-lab-") as folder:
        root = Path(folder)
        with tarfile.open(fileobj=io.BytesIO(found.maps), mode="r:xz") as tar:
            tar.extractall(root / "mappings", filter="data")
        shutil.copytree(MAPS / "engine", root / "mappings" / "engine", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "mappings" / "__init__.py").touch()
        path = root / f"{feed}.yaml"
        path.write_bytes(_with_own(found.feed_file, root / "mappings" / OWN))
        done = subprocess.run(
            [sys.executable, "-m", "deployments.lab.corpus", str(path), str(corpus.resolve())],
            capture_output=True,
            check=False,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
        )
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no word"])[-1]
        # the last line of a traceback is ours where it is a ConfigError, which names files and lines alone
        why = last.partition("ConfigError: ")[2] or "see what changed in mappings/engine"
        raise Permanent(f"feed {feed}: the deployed maps cannot be read by today's engine: {why}")
    return [loads(line) for line in done.stdout.splitlines()]


def _with_own(feed_file: bytes, own: Path) -> bytes:
    """Return a feed file whose mapping is the kept one, where it was named by its path."""
    if not own.is_file():
        return feed_file
    lines = feed_file.decode().splitlines()
    return "\n".join(f"mapping: {own}" if line.startswith("mapping:") else line for line in lines).encode() + b"\n"


def known(connection: Connection, feed: str) -> Deployed:
    """Return what was deployed last; raises `ConfigError` where the feed never was."""
    found = recall(connection, feed)
    if found is None:
        raise ConfigError(f"feed {feed}: it was never deployed, so there is nothing to compare with; `sluice deploy`")
    return found
