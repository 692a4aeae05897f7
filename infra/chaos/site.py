"""The embedded stack as a site for chaos: partners on SFTP, S3 and MLLP, a FHIR server; all of it can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import psutil

from infra.chaos.mllp import send
from infra.chaos.workload import Round
from infra.chaos.world import World, wait_for
from infra.dev.partners import DroppedFile, drop_s3, drop_sftp
from infra.dev.process import free_port, listens
from infra.dev.stack import Stack
from tasks.settings import PROJECT

FEEDS: Mapping[str, str] = {
    "northside.hl7": """
source: {kind: sftp, connection: northside, path: /outbound, match: "*.hl7", ready: {stable_polls: 1}, after: archive}
format: hl7v2
mapping: v2
timezone: America/New_York
identify: {patient: [MR@NORTHSIDE, PI]}
quarantine: {hold_above_percent: 100}
route: [{to: [warehouse, ehr]}]
receipt: {path: /receipts}
""",
    "eastlab.results": """
source: {kind: s3, connection: eastlab, path: results/, match: "*.csv", ready: {stable_polls: 1}, after: leave}
format: csv
mapping: eastlab-results
timezone: America/New_York
quarantine: {hold_above_percent: 100}
route: [{to: [warehouse, ehr]}]
receipt: {path: receipts}
""",
    "westside.live": """
source: {kind: mllp}
format: hl7v2
mapping: v2
timezone: America/New_York
identify: {patient: [MR@NORTHSIDE, PI]}
quarantine: {hold_above_percent: 100}
route: [{to: [warehouse, ehr]}]
""",
}
OF = {"hl7": "northside.hl7", "csv": "eastlab.results", "mllp": "westside.live"}
"""The feed that takes a round."""
_MAIN = "from deployments.cli.main import main; main()"


class Site(World):
    """A world on a stack of its own; `revive` starts whatever of it was killed."""

    stack: Stack
    listener: subprocess.Popen[bytes] | None = None
    listener_port = 0

    def deliver(self, one: Round) -> None:
        """Let a partner send a round; messages are sent until they are acknowledged."""
        if one.messages:
            self.listen()
            send(self.listener_port, one.messages, self.listen)
        elif one.feed == "hl7":
            drop_sftp(self.folder / "home" / "sftp" / "homes" / "northside", [DroppedFile(one.name, one.data)])
        else:
            drop_s3(self._s3(), "eastlab", [DroppedFile(one.name, one.data)])

    def listen(self) -> None:
        """Start the listener where it does not run."""
        if self.listener is not None and self.listener.poll() is None:
            return
        self.listener_port = self.listener_port or free_port(21000)
        self.listener = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "listen", "mllp", "westside.live", "--port", str(self.listener_port)],
            cwd=PROJECT,
            env={**os.environ, **self.env, "PYTHONPATH": str(PROJECT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not wait_for(lambda: listens(self.listener_port), 60):
            raise RuntimeError("the listener does not come up")

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
        if self.listener is not None:
            with suppress(ProcessLookupError):
                os.kill(self.listener.pid, signal.SIGCONT)
            self.listener.kill()
            self.listener.wait()
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
            ("westside.live",),
            env,
            env["SLUICE_WAREHOUSE_URL"],
            (stack.database("fhir"), "ehr"),
        )
        made.stack = stack
        try:
            yield made
        finally:
            made.close()
    finally:
        stack.down(lambda _line: None)
        for name in mine:
            os.environ.pop(name)
        os.environ.update({name: before[name] for name in mine if name in before})


def write_feeds(folder: Path) -> Path:
    """Write the feeds' files; all sites share them, as they share the processes that have compiled them."""
    folder.mkdir(parents=True)
    for name, text in FEEDS.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def families(env: Mapping[str, str], word: str) -> Sequence[psutil.Process]:
    """Return this site's processes in whose environment a word stands, the youngest last."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
            theirs = process.environ()
            if theirs.get("SLUICE_HOME") == env["SLUICE_HOME"] and word in theirs.values():
                found.append(process)
    return sorted(found, key=lambda one: one.create_time())
