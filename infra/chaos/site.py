"""The embedded stack as a site for chaos: partners on SFTP, S3 and MLLP, a FHIR server; all of it can be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import boto3
import psutil

from infra.chaos.feeds import OF, PUSHED, texts
from infra.chaos.listener import Listener
from infra.chaos.workload import Feed, Round
from infra.chaos.world import World
from infra.dev.partners import DroppedFile, drop_s3, drop_sftp
from infra.dev.stack import Stack, apart

FEEDS = texts(
    'kind: sftp, connection: northside, path: /outbound, match: "*.hl7", ready: {stable_polls: 1}, after: archive',
    'kind: s3, connection: eastlab, path: results/, match: "*.csv", ready: {stable_polls: 1}, after: leave',
    "/receipts",
)


class Site(World):
    """A world on a stack of its own; `revive` starts whatever of it was killed."""

    stack: Stack
    listeners: dict[Feed, Listener]

    def deliver(self, one: Round) -> None:
        """Let a partner send a round; messages are sent until they are acknowledged."""
        if one.messages:
            self.listener(one.feed).send(one.messages)
        elif one.feed == "hl7":
            drop_sftp(self.folder / "home" / "sftp" / "homes" / "northside", [DroppedFile(one.name, one.data)])
        else:
            drop_s3(self._s3(), "eastlab", [DroppedFile(one.name, one.data)])

    def listener(self, feed: Feed) -> Listener:
        """Return the listener that takes such rounds; made when it is first asked for, and not begun."""
        kind: Literal["mllp", "http"] = "http" if feed == "http" else "mllp"
        return self.listeners.setdefault(feed, Listener(kind, OF[feed], self.env))

    def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Kill a service of the stack, itself alone; its children end or are orphaned as they are in a crash."""
        process = psutil.Process(self.pid(service))
        process.send_signal(number)
        psutil.wait_procs([process], timeout=30)

    def pid(self, service: str) -> int:
        """Return a service's process id."""
        return next(int(row["pid"] or 0) for row in self.stack.status() if row["service"] == service)

    def revive(self) -> None:
        """Start again what does not run."""
        self.stack.up(lambda _line: None)

    def close(self) -> None:
        """End everything."""
        super().close()
        for listener in self.listeners.values():
            listener.end()
        self.stack.down(lambda _line: None)

    def _s3(self) -> Any:
        said = json.loads(self.env["SLUICE_CONNECTION_EASTLAB"])
        return boto3.client(
            "s3",
            endpoint_url=said["endpoint_url"],
            region_name=said["region"],
            aws_access_key_id=said["access_key"],
            aws_secret_access_key=said["secret_key"],
        )

    def given(self) -> dict[str, bytes]:
        """Return the receipts of both partners by their names."""
        folder = self.folder / "home" / "sftp" / "homes" / "northside" / "receipts"
        found = {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}
        s3 = self._s3()
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="eastlab", Prefix="receipts/"):
            for item in page.get("Contents", ()):
                found[item["Key"].rpartition("/")[2]] = s3.get_object(Bucket="eastlab", Key=item["Key"])["Body"].read()
        return found


@contextmanager
def site(folder: Path, feeds: Path) -> Iterator[Site]:
    """Yield a running site in a folder of its own; this process's `SLUICE_HOME` is the site's meanwhile."""
    home = folder / "home"
    points = folder / "failpoints"
    points.mkdir(parents=True)
    mine = {
        "SLUICE_HOME": str(home),
        "SLUICE_FEEDS": str(feeds),
        "SLUICE_BATCH_RECORDS": "5",
        # the worker and what it starts get them from here
        "SLUICE_FAILPOINTS": str(points),
        "SLUICE_LEASE_SECONDS": "2",
        **apart(),
    }
    before = dict(os.environ)
    os.environ.update(mine)
    stack = Stack(home)
    try:
        stack.up(lambda line: print(f"  {line}", file=sys.stderr, flush=True))  # noqa: T201
        env = {**json.loads((home / "environment.json").read_text()), **mine}
        made = Site(
            folder,
            tuple(FEEDS),
            PUSHED,
            env,
            env["SLUICE_WAREHOUSE_URL"],
            (stack.database("fhir"), "ehr"),
        )
        made.stack, made.listeners = stack, {}
        try:
            yield made
        finally:
            made.close()
    finally:
        stack.down(lambda _line: None)
        for name in mine:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in mine if name in before})


def families(env: Mapping[str, str], word: str) -> Sequence[psutil.Process]:
    """Return this site's processes in whose environment a word stands, the youngest last."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
            theirs = process.environ()
            if theirs.get("SLUICE_HOME") == env["SLUICE_HOME"] and word in theirs.values():
                found.append(process)
    return sorted(found, key=lambda one: one.create_time())
