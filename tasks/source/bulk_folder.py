"""The folder that `sluice export` fills: its progress, its half files, its finished ones.

DIR/<Type>.NNN.ndjson, deleted/, error/, manifest.json     what was exported
DIR/.sluice-export/job.json                                the job: request, status URL, manifest
DIR/.sluice-export/files.ndjson                            one line for each file that is finished
DIR/.sluice-export/parts/                                  files that are under way
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tasks.errors import ConfigError
from tasks.source.bulk_job import BulkFile, Manifest
from tasks.source.bulk_lines import BOM, Checked, LineCheck

PROGRESS = ".sluice-export"
_ONE_BY_ONE = 32
_EARLY = 8 << 20


@dataclass(frozen=True, slots=True)
class Fetched:
    """What is known of a finished file; `places` are the first broken lines as the server numbered them."""

    name: str
    size: int
    resources: int
    blank: int = 0
    broken: int = 0
    places: tuple[int, ...] = ()
    other_type: int = 0
    duplicates: int = 0


class ExportFolder:
    """One folder, held by one process at a time.

    Raises `ConfigError` where the folder holds another export, or files that this one would overwrite.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.progress = path / PROGRESS
        self._fingerprint = fingerprint
        self._journal_lock = threading.Lock()
        self._make()
        self._lock = self._hold()
        self.job = self._read_job()
        self.fetched = self._read_journal()
        self._journal: IO[str] | None = None

    def _make(self) -> None:
        try:
            if not self.progress.is_dir() and self.path.is_dir():
                self._refuse_foreign()
            (self.progress / "parts").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.path}: the folder cannot be written ({error.strerror})") from None

    def _refuse_foreign(self) -> None:
        if any(self.path.glob("*.ndjson")) or (self.path / "manifest.json").exists():
            raise ConfigError(f"{self.path}: holds files that are not of an export by sluice; choose another folder")

    def _hold(self) -> IO[str]:
        lock = (self.progress / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise ConfigError(f"{self.path}: another sluice export is at work in this folder") from None
        return lock

    def _read_job(self) -> dict[str, Any]:
        try:
            job: dict[str, Any] = json.loads((self.progress / "job.json").read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            raise ConfigError(f"{self.progress}/job.json: cannot be read; remove {self.path} to begin anew") from None
        if job.get("fingerprint") != self._fingerprint:
            raise ConfigError(f"{self.path}: holds an export with other parameters; choose another folder")
        return job

    def save(self, **values: Any) -> None:
        """Add `values` to the job's progress, durably."""
        self.job = {**self.job, **values, "fingerprint": self._fingerprint}
        write_atomically(self.progress / "job.json", json.dumps(self.job).encode())

    def forget(self) -> None:
        """Drop the job and every file of it: a new kick-off is another snapshot."""
        # The job goes first: files of a job that is still known would count as fetched.
        self.job = {}
        write_atomically(self.progress / "job.json", json.dumps({"fingerprint": self._fingerprint}).encode())
        self._close_journal()
        (self.progress / "files.ndjson").unlink(missing_ok=True)
        shutil.rmtree(self.progress / "parts", ignore_errors=True)
        (self.progress / "parts").mkdir()
        for folder in (self.path, self.path / "deleted", self.path / "error"):
            for path in folder.glob("*.ndjson"):
                path.unlink()
        (self.path / "manifest.json").unlink(missing_ok=True)
        self.fetched = {}

    def part(self, file: BulkFile) -> Path:
        """Return where the file's bytes are kept while it is under way."""
        return self.progress / "parts" / file.name.replace("/", "-")

    def finish(self, file: BulkFile, check: Checked) -> Fetched:
        """Give a file that is complete its name, one object a line; broken lines go to `error/broken/`."""
        part, target = self.part(file), self.path / file.name
        target.parent.mkdir(exist_ok=True)
        if not check.clean:
            self._rewrite(part, file)
        if check.size >= _EARLY:
            # While others still come in: at the end there is less to wait for.
            durable(part)
        part.replace(target)
        fetched = Fetched(
            file.name,
            target.stat().st_size,
            check.resources,
            check.blank,
            check.broken,
            check.places,
            check.other_type,
            check.duplicates,
        )
        self._note(fetched)
        part.with_name(part.name + ".state").unlink(missing_ok=True)
        return fetched

    def _rewrite(self, part: Path, file: BulkFile) -> None:
        clean = part.with_name(part.name + ".clean")
        broken: list[bytes] = []
        with part.open("rb") as source, clean.open("wb") as target:
            for number, line in enumerate(source):
                text = (line.removeprefix(BOM) if number == 0 else line).strip()
                if not text:
                    continue
                check = LineCheck()
                check.feed(text + b"\n")
                if check.close().broken:
                    broken.append(text + b"\n")
                else:
                    target.write(text + b"\n")
        if broken:
            aside = self.path / "error" / "broken" / Path(file.name).name
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(b"".join(broken))
        clean.replace(part)

    def _note(self, fetched: Fetched) -> None:
        with self._journal_lock:
            self._journal = self._journal or (self.progress / "files.ndjson").open("a", encoding="utf-8")
            self._journal.write(json.dumps(asdict(fetched)) + "\n")
            self._journal.flush()
            self.fetched[fetched.name] = fetched

    def _read_journal(self) -> dict[str, Fetched]:
        found: dict[str, Fetched] = {}
        try:
            lines = (self.progress / "files.ndjson").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            try:
                values = json.loads(line)
            except ValueError:
                continue  # the line that a killed process was writing; its file is fetched again
            item = Fetched(**{**values, "places": tuple(values["places"])})
            target = self.path / item.name
            if target.is_file() and target.stat().st_size == item.size:
                found[item.name] = item
        return found

    def drop(self, name: str) -> None:
        """Forget a finished file, so that it is fetched again."""
        self.fetched.pop(name, None)
        (self.path / name).unlink(missing_ok=True)

    def write_manifest(self, manifest: Manifest) -> None:
        """Write `manifest.json`: the server's own, with the names of the files here in place of their addresses."""
        first: Mapping[str, Any] = self.job.get("manifest_head") or {}
        body: dict[str, Any] = {**first, "transactionTime": manifest.transaction_time}
        for kind in ("output", "deleted", "error"):
            body[kind] = [
                {"type": file.type, "url": file.name, "count": self.fetched[file.name].resources}
                for file in manifest.files
                if file.kind == kind and file.name in self.fetched
            ]
        write_atomically(self.path / "manifest.json", json.dumps(body, indent=2).encode())

    def settle(self) -> None:
        """Make every finished file durable: from here on the server may forget them."""
        if len(self.fetched) > _ONE_BY_ONE:
            # Thousands of tiny files: each fsync of its own would take longer than fetching them.
            os.sync()
            return
        for name in self.fetched:
            durable(self.path / name)
        for folder in {(self.path / name).parent for name in self.fetched}:
            durable(folder)

    def close(self) -> None:
        """Let another process at the folder."""
        self._close_journal()
        self._lock.close()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds the old or the new content whole, whatever happens."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    durable(path.parent)


def durable(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
