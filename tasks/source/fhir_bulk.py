"""A FHIR server's bulk export as a source (`kind: fhir-bulk`): every output file is a delivery.

The job is begun by one poll and may be finished by a later one; `_since` moves on to the job's transaction time only
when every file of it was landed. Source: FHIR Bulk Data Access 2.0.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from mappings.engine import json
from tasks.errors import ConfigError, Permanent, Transient
from tasks.http import Retry, client
from tasks.http_auth import connection_auth, read_auth
from tasks.http_pace import Pace
from tasks.model import Offer
from tasks.source.bulk_job import BulkFile, JobFailed, JobGone, Manifest, Watch, await_manifest, delete, kick_off
from tasks.source.bulk_lines import LineCount
from tasks.source.bulk_request import ExportRequest, instant
from tasks.source.bulk_stream import FileStream
from tasks.source.port import SourceOptions, SourceState

_TELLING = {"error", "fatal", None}
_OF_A_JOB = {"status_url", "manifest", "short", "gone"}


class BulkOptions(SourceOptions):
    """A feed's `source:` block with `kind: fhir-bulk`.

    - `base_url` is the server's base or a kick-off URL; it may stand in the connection instead.
    - `auth` is an auth file, else the connection's values are used.
    - `since` is where the first export begins; later ones begin where the last one ended.
    - `wait` is how many seconds one poll watches a job; the next poll goes on with the same job.
    """

    base_url: str | None = None
    auth: Path | None = None
    level: Literal["system", "patient"] = "system"
    group: str | None = None
    types: tuple[str, ...] = ()
    type_filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    since: str | None = None
    method: Literal["get", "post"] = "get"
    headers: dict[str, str] = Field(default_factory=dict)
    parallel: int = Field(default=4, ge=1, le=64)
    wait: float = Field(default=60.0, ge=0)
    interval: float = Field(default=1.0, gt=0)
    attempts: int = Field(default=8, ge=1)
    backoff: float = Field(default=0.5, gt=0)


class FhirBulkSource:
    """Hands over the files of one export after another.

    The cursor holds `since`, and while a job is under way its `status_url`, once complete its `manifest`, the names
    of files that are `short` of the manifest's count, and the addresses of those that were `gone`.
    """

    Options: ClassVar[type[SourceOptions]] = BulkOptions

    def __init__(self, options: BulkOptions, connection: Mapping[str, str]) -> None:
        url = options.base_url or connection.get("base_url")
        if not url:
            raise ConfigError("kind: fhir-bulk needs base_url, in the feed's source or in its connection")
        self._options, self._url = options, url
        base = self._request(None).base
        auth = read_auth(options.auth) if options.auth else connection_auth(connection)
        self._http = client(
            base, auth, headers=options.headers, connections=options.parallel + 1, follow_redirects=True
        )
        self._retry = Retry(options.attempts, options.backoff)
        self._stream = FileStream(self._http, base, Pace(options.parallel), self._retry)
        self._lock = threading.Lock()
        self._state: SourceState | None = None

    def poll(self, state: SourceState) -> Iterator[Offer]:
        """Begin an export or go on with the one under way; yield its files once it is complete."""
        self._state = state
        manifest = self._manifest(state)
        if manifest is None:
            return
        for file in manifest.files:
            offer = _offer(file, manifest)
            if file.kind != "error" and not state.landed(offer.name, offer.version):
                yield offer

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        """Yield a file's bytes as the server sends them.

        Raises `Transient` where its time is up; the next poll asks for its new address, or begins a new export.
        """
        file = BulkFile(**offer.meta["file"])
        manifest = Manifest(offer.version, offer.meta["requires_token"], ())
        # A part of a file says nothing about how many lines the whole has. What a line holds, parsing looks at.
        count = LineCount() if not offset and file.count is not None else None
        try:
            for chunk in self._stream.read(file, manifest, offset):
                if count is not None:
                    count.feed(chunk)
                yield chunk
        except JobGone as error:
            self._note_gone(offer.name, file.url)
            raise Transient(f"{error}; the next poll asks for its address again, or begins a new export") from None
        if count is not None and file.count is not None and count.close() < file.count:
            self._note_short(offer.name)

    def finish(self, offer: Offer, state: SourceState) -> None:
        """Nothing is left to do for one file: the job as a whole is deleted."""

    def done(self, state: SourceState) -> None:
        """Move `_since` on and delete the job, where every file of it was landed.

        Raises `Permanent` where the export is partial: then `_since` stays, and the next poll asks for it again.
        """
        cursor = dict(state.cursor())
        if "manifest" not in cursor:
            return
        manifest = Manifest.from_json(cursor["manifest"])
        if any(f.kind != "error" and not _landed(state, f, manifest) for f in manifest.files):
            return
        problems = self._problems(manifest, cursor.get("short", ()))
        status_url = cursor["status_url"]
        if problems or not manifest.transaction_time:
            state.save(_without_job(cursor))
        else:
            state.save({**_without_job(cursor), "since": manifest.transaction_time})
        delete(self._http, status_url)
        if problems:
            raise Permanent(f"the export is partial, what came is landed: {'; '.join(problems)}")

    def close(self) -> None:
        """Give up connections."""
        self._http.close()

    def _request(self, since: str | None) -> ExportRequest:
        options = self._options
        first = instant(options.since) if options.since else None
        return ExportRequest(
            self._url,
            types=options.types,
            since=since or first,
            group=options.group,
            level=options.level,
            type_filters=options.type_filters,
            elements=options.elements,
            method=options.method,
        )

    def _manifest(self, state: SourceState) -> Manifest | None:
        cursor = dict(state.cursor())
        if "manifest" in cursor:
            return Manifest.from_json(cursor["manifest"])
        if "status_url" not in cursor:
            cursor["status_url"] = kick_off(self._http, self._request(cursor.get("since")), self._retry)
            # Kept before anything is asked of it, so that a crash does not leave an export behind that nobody fetches.
            state.save(cursor)
        watch = Watch(interval=self._options.interval)
        try:
            manifest = await_manifest(self._http, cursor["status_url"], self._retry, watch, self._options.wait)
        except (JobGone, JobFailed) as error:
            state.save(_without_job(cursor))
            raise Transient(f"{error}; the next poll begins a new one") from None
        if manifest is None:
            return None
        gone = cursor.get("gone", {})
        if any(gone.get(_offer(file, manifest).name) == file.url for file in manifest.files):
            self._drop_job(state)
            return self._manifest(state)
        state.save({**cursor, "manifest": manifest.as_json()})
        return manifest

    def _drop_job(self, state: SourceState) -> None:
        """Give a job up whose files cannot be had any more; some servers run one export at a time."""
        delete(self._http, state.cursor()["status_url"])
        state.save(_without_job(dict(state.cursor())))

    def _note_gone(self, name: str, url: str) -> None:
        """Let the next poll ask the manifest for a new signed address; the second time, drop the job."""
        with self._lock:
            cursor = dict(self._state.cursor()) if self._state is not None else {}
            if self._state is None or "manifest" not in cursor:
                return
            if name in cursor.get("gone", {}):
                self._drop_job(self._state)
            else:
                del cursor["manifest"]
                self._state.save({**cursor, "gone": {**cursor.get("gone", {}), name: url}})

    def _note_short(self, name: str) -> None:
        """Remember, for a later process too, that the export is partial."""
        with self._lock:
            if self._state is not None:
                cursor = dict(self._state.cursor())
                self._state.save({**cursor, "short": sorted({*cursor.get("short", ()), name})})

    def _problems(self, manifest: Manifest, short: Iterable[str]) -> list[str]:
        problems = list(manifest.problems)
        problems += [f"{name} holds fewer resources than the manifest says" for name in short]
        for file in manifest.files:
            if file.kind == "error" and self._tells(file, manifest):
                problems.append(f"the server reports errors in {file.name}")
        return problems

    def _tells(self, file: BulkFile, manifest: Manifest) -> bool:
        """Say whether a file of OperationOutcomes holds an error; one that cannot be had counts as one."""
        try:
            lines = b"".join(self._stream.read(file, manifest)).splitlines()
            return any(_severe(json.loads(line)) for line in lines if line.strip())
        except (JobGone, Transient, Permanent, ValueError):
            return True


def _severe(outcome: Any) -> bool:
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    return not isinstance(issues, list) or any(
        not isinstance(issue, dict) or issue.get("severity") in _TELLING for issue in issues
    )


def _landed(state: SourceState, file: BulkFile, manifest: Manifest) -> bool:
    offer = _offer(file, manifest)
    return state.landed(offer.name, offer.version)


def _offer(file: BulkFile, manifest: Manifest) -> Offer:
    """Return the offer of a file.

    Its name begins with the transaction time: files of two exports that are called alike are no corrections.
    """
    # without its query, which is another one where a signed address is made anew
    job = hashlib.sha256(manifest.files[0].url.partition("?")[0].encode()).hexdigest()[:12]
    moment = re.sub(r"[^0-9TZ]", "", manifest.transaction_time) or f"export-{job}"
    meta = {
        "file": {"kind": file.kind, "name": file.name, "type": file.type, "url": file.url, "count": file.count},
        "requires_token": manifest.requires_token,
    }
    return Offer(f"{moment}/{file.name}", manifest.transaction_time or job, None, meta)


def _without_job(cursor: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cursor.items() if name not in _OF_A_JOB}
