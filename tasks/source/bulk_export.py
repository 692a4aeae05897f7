"""A bulk export into a folder: what `sluice export` does.

Given again it goes on where it was: same job, finished files kept, half files resumed.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mappings.engine import json as fhir_json
from tasks.errors import SluiceError, Transient
from tasks.http import Retry
from tasks.http_pace import Pace
from tasks.source.bulk_checker import Checker, Follow
from tasks.source.bulk_folder import ExportFolder
from tasks.source.bulk_job import BulkFile, JobFailed, JobGone, Manifest, Watch, await_manifest, delete, kick_off
from tasks.source.bulk_lines import Checked
from tasks.source.bulk_request import ExportRequest
from tasks.source.bulk_stream import FileChanged, FileStream, Validator

_RESUMABLE = 64 * 1024
_REFETCHES = 2
_TELLING_SEVERITIES = {"error", "fatal"}


@dataclass(slots=True)
class Progress:
    """How far an export is; `changed` is called whenever that moves, from any thread."""

    changed: Callable[[Progress], None] = field(default=lambda _: None)
    stage: str = ""
    files: int = 0
    of: int = 0
    size: int = 0


@dataclass(slots=True)
class ExportSummary:
    """What became of an export; it is partial where anything of what was asked for is not in the folder.

    - `missing` are files that could not be had, with the reason; `short` hold fewer resources than the manifest says.
    - `broken` are lines that are not JSON, by file and number; they are set aside in `error/broken/`.
    - `issues` counts the server's own OperationOutcomes by severity and code.
    """

    transaction_time: str = ""
    files: int = 0
    size: int = 0
    resources: dict[str, int] = field(default_factory=dict)
    deleted_bundles: int = 0
    issues: dict[str, int] = field(default_factory=dict)
    missing: list[dict[str, str]] = field(default_factory=list)
    short: list[dict[str, Any]] = field(default_factory=list)
    broken: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kick_offs: int = 0

    @property
    def partial(self) -> bool:
        """Whether something is missing."""
        told = any(key.partition(":")[0] in _TELLING_SEVERITIES for key in self.issues)
        return bool(self.missing or self.short or self.broken or told)


class Exporter:
    """Runs one export; `http` is the client of the request's base."""

    def __init__(
        self,
        http: httpx.Client,
        request: ExportRequest,
        folder: ExportFolder,
        *,
        parallel: int = 4,
        retry: Retry | None = None,
        watch: Watch | None = None,
        progress: Progress | None = None,
        new_jobs: int = 4,
    ) -> None:
        self._http, self._request, self._folder = http, request, folder
        self._retry, self._watch = retry or Retry(), watch or Watch()
        self._progress = progress or Progress()
        self._new_jobs = new_jobs
        self._parallel = parallel
        self._stream = FileStream(http, request.base, Pace(parallel), self._retry)
        self._checker = Checker()
        self._mutex = threading.Lock()
        self._stopped = threading.Event()
        self._summary = ExportSummary()
        self._had_when_renewed = -1

    def run(self) -> ExportSummary:
        """Export, or go on; raises `Transient`, `Permanent` or `ConfigError` where no manifest can be had."""
        try:
            return self._run()
        except OSError as error:
            where = f"{self._folder.path}: the folder cannot be written ({error.strerror})"
            raise Transient(f"{where}; what is finished is kept, run again to go on") from None
        finally:
            self._checker.close()

    def _run(self) -> ExportSummary:
        if self._folder.job.get("partial"):
            self._begin_anew()
        while True:
            manifest = self._manifest()
            if manifest is None:
                continue
            failed = self._fetch_all(manifest)
            gone = {name for name, error in failed.items() if isinstance(error, JobGone)}
            if gone and self._renew_addresses(manifest, gone):
                continue
            if not gone or self._summary.kick_offs >= self._new_jobs:
                return self._close(manifest, failed)
            self._begin_anew()

    def _renew_addresses(self, manifest: Manifest, gone: set[str]) -> bool:
        """Ask for the manifest once more: signed addresses outlive their time there. Say whether it is worth a try."""
        if len(self._folder.fetched) <= self._had_when_renewed:
            return False
        self._had_when_renewed = len(self._folder.fetched)
        try:
            now = await_manifest(self._http, self._folder.job["status_url"], self._retry, self._watch, 0)
        except SluiceError:
            return False
        if now is None or not manifest.renewed_by(now, gone):
            return False
        self._folder.save(manifest=now.as_json())
        return True

    def _begin_anew(self) -> None:
        """Replace the job by a new one; the old one's files stay until the server has taken the new kick-off."""
        self._say("asking for the export")
        if status_url := self._folder.job.get("status_url"):
            delete(self._http, status_url)
        self._summary.kick_offs += 1
        status_url = kick_off(self._http, self._request, self._retry)
        self._folder.forget()
        self._folder.save(status_url=status_url)

    def _manifest(self) -> Manifest | None:
        """Return the job's manifest; None where the server forgot the job and a new one was begun."""
        if "manifest" in self._folder.job:
            return Manifest.from_json(self._folder.job["manifest"])
        if "status_url" not in self._folder.job:
            self._begin_anew()
        self._watch.said = lambda text: self._say(f"the server is at work {text}".rstrip())
        try:
            manifest = await_manifest(self._http, self._folder.job["status_url"], self._retry, self._watch, None)
        except JobGone as error:
            if self._summary.kick_offs >= self._new_jobs:
                self._folder.forget()
                raise Transient(str(error)) from None
            self._begin_anew()
            return None
        except JobFailed:
            self._folder.forget()
            raise
        assert manifest is not None  # noqa: S101 - it was waited for without an end
        self._folder.save(manifest=manifest.as_json(), manifest_head=_head(manifest))
        return manifest

    def _fetch_all(self, manifest: Manifest) -> dict[str, SluiceError]:
        wanted = [file for file in manifest.files if file.name not in self._folder.fetched]
        self._progress.of, self._progress.files = len(manifest.files), len(manifest.files) - len(wanted)
        self._say("fetching files")
        failed: dict[str, SluiceError] = {}
        for last in (*[False] * _REFETCHES, True):
            wanted = self._round(wanted, manifest, failed, last)
            if not wanted:
                break
        return failed

    def _round(
        self, wanted: list[BulkFile], manifest: Manifest, failed: dict[str, SluiceError], last: bool
    ) -> list[BulkFile]:
        """Fetch files and return those to be fetched once more; `last` says that what comes now is what there is."""
        again: list[BulkFile] = []
        gone = threading.Event()

        def finish(file: BulkFile, follow: Follow) -> None:
            if not self._finish(file, follow.result(), last):
                again.append(file)

        def one(file: BulkFile) -> None:
            # A file whose time is up leads to a new job: what is not begun would be dropped with the old one.
            if gone.is_set() and self._summary.kick_offs < self._new_jobs:
                return
            follow = self._checker.follow(self._folder.part(file), "" if file.type == "Resource" else file.type)
            try:
                self._download(file, manifest, follow)
            except SluiceError as error:
                follow.drop()
                self._failed(file, error, failed, again, last)
                if isinstance(error, JobGone):
                    gone.set()
            else:
                if follow.is_large:
                    checks.append(behind.submit(finish, file, follow))
                else:
                    finish(file, follow)

        checks: list[Future[None]] = []
        with (
            ThreadPoolExecutor(1, "sluice-check") as behind,
            ThreadPoolExecutor(self._parallel, "sluice-export") as pool,
        ):
            try:
                list(pool.map(one, wanted))
                for check in checks:
                    check.result()
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                behind.shutdown(wait=False, cancel_futures=True)
                raise
        return again

    def _failed(
        self, file: BulkFile, error: SluiceError, failed: dict[str, SluiceError], again: list[BulkFile], last: bool
    ) -> None:
        if isinstance(error, FileChanged):
            self._folder.part(file).unlink(missing_ok=True)
            if not last:
                again.append(file)
                return
        failed[file.name] = error

    def _finish(self, file: BulkFile, found: Checked, last: bool) -> bool:
        """Give a checked file its name; say no where it is cut short and fetching it again may help."""
        part = self._folder.part(file)
        # A file that ends too early without the connection saying so shows in its last line or in its count.
        if not last and (_short(found, file) or (found.broken and found.places[-1] == found.lines)):
            part.unlink(missing_ok=True)
            return False
        self._folder.finish(file, found)
        with self._mutex:
            self._progress.files += 1
        self._say()
        return True

    def _download(self, file: BulkFile, manifest: Manifest, follow: Follow) -> None:
        part = self._folder.part(file)
        state = part.with_name(part.name + ".state")
        validator = _resume(part, state)
        known = [validator or Validator()]
        size = part.stat().st_size if validator else 0
        follow.begin(size)
        with part.open("ab" if size else "wb") as target:
            for chunk in self._stream.read(file, manifest, size, validator, known.append):
                target.write(chunk)
                follow.take(chunk)
                if self._stopped.is_set():
                    raise Transient("stopped")
                before, size = size, size + len(chunk)
                if before <= _RESUMABLE < size:
                    _note_state(state, known[-1])
                if follow.wants(size):
                    target.flush()
                    follow.to(size)
                with self._mutex:
                    self._progress.size += len(chunk)
                self._say()

    def _close(self, manifest: Manifest, failed: dict[str, SluiceError]) -> ExportSummary:
        self._say("finishing")
        summary = self._summary
        summary.transaction_time = manifest.transaction_time
        for file in manifest.files:
            if file.name in self._folder.fetched:
                self._count(file)
            else:
                reason = str(failed.get(file.name, "it was not fetched"))
                summary.missing.append({"file": file.name, "reason": reason.removeprefix(f"file {file.name}: ")})
        summary.missing += [{"file": "", "reason": problem} for problem in manifest.problems]
        self._folder.write_manifest(manifest)
        self._folder.settle()
        if not summary.missing:
            self._settle_job(summary)
        return summary

    def _settle_job(self, summary: ExportSummary) -> None:
        # What the server itself could not give will not come by asking for the same files: a later run asks anew.
        if not self._folder.job.get("complete"):
            self._folder.save(complete=True, partial=summary.partial)
        if not self._folder.job.get("deleted"):
            self._folder.save(deleted=delete(self._http, self._folder.job["status_url"]))

    def _count(self, file: BulkFile) -> None:
        summary, got = self._summary, self._folder.fetched[file.name]
        summary.files += 1
        summary.size += got.size
        if file.kind == "output":
            summary.resources[file.type] = summary.resources.get(file.type, 0) + got.resources
        elif file.kind == "deleted":
            summary.deleted_bundles += got.resources
        else:
            counts = Counter(summary.issues) + _issues(self._folder.path / file.name)
            summary.issues = dict(counts)
        summary.broken += [{"file": file.name, "line": line} for line in got.places]
        if got.other_type:
            summary.short.append({"file": file.name, "other_type": got.other_type})
        if got.duplicates:
            summary.notes.append(f"{file.name}: {got.duplicates} resources stand there more than once")
        self._reconcile(file, got.resources, got.duplicates)

    def _reconcile(self, file: BulkFile, resources: int, duplicates: int) -> None:
        if file.count is None or file.count in {resources, resources - duplicates}:
            return
        if resources < file.count:
            self._summary.short.append({"file": file.name, "expected": file.count, "resources": resources})
        else:
            self._summary.notes.append(f"{file.name}: {resources} resources where the manifest says {file.count}")

    def _say(self, stage: str = "") -> None:
        self._progress.stage = stage or self._progress.stage
        self._progress.changed(self._progress)


def _short(found: Checked, file: BulkFile) -> bool:
    return file.count is not None and found.resources < file.count


def _resume(part: Path, state: Path) -> Validator | None:
    """Return what the half file that is here is a half of, or None to begin at the start."""
    try:
        etag, modified = json.loads(state.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return Validator(etag, modified) if part.is_file() else None


def _note_state(state: Path, validator: Validator) -> None:
    new = state.with_name(state.name + ".new")
    new.write_text(json.dumps([validator.etag, validator.modified]), "utf-8")
    new.replace(state)


def _issues(path: Path) -> Counter[str]:
    found: Counter[str] = Counter()
    with path.open("rb") as lines:
        for line in lines:
            outcome = fhir_json.loads(line)
            for issue in outcome.get("issue") or [{}]:
                found[f"{_word(issue.get('severity'), 'error')}:{_word(issue.get('code'), 'unknown')}"] += 1
    return found


def _word(value: Any, otherwise: str) -> str:
    return value if isinstance(value, str) and value.isascii() and value.replace("-", "").isalpha() else otherwise


def _head(manifest: Manifest) -> dict[str, Any]:
    page = manifest.pages[0] if manifest.pages else {}
    return {key: page[key] for key in ("transactionTime", "request", "requiresAccessToken") if key in page}
