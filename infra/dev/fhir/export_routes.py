"""The addresses of bulk exports: kick-off, status, cancelling, files."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from psycopg_pool import ConnectionPool
from starlette.concurrency import run_in_threadpool

from infra.dev.fhir import export
from infra.dev.fhir.export import ExportOptions, File, Job
from infra.dev.fhir.kickoff import parameters, require_kickoff, wanted
from infra.dev.fhir.outcome import Refusal, all_ok
from infra.dev.fhir.protocol import FHIR_JSON, Asking, http_date
from infra.dev.fhir.server import Server
from infra.dev.fhir.store import Db, instant
from mappings.engine.json import dumps

T = TypeVar("T")


class Exporter:
    """Makes exports one after another beside the requests."""

    def __init__(self, pool: ConnectionPool, options: ExportOptions) -> None:
        self.pool, self.options = pool, options
        self._worker = ThreadPoolExecutor(1, "export")

    def resume(self) -> None:
        """Take up the exports that a server that ended has left."""
        with self.pool.connection() as db:
            for job in export.unfinished(db):
                self.submit(job)

    def submit(self, job: UUID) -> None:
        """Make an export when those before it are made."""
        self._worker.submit(self._make, job)

    def _make(self, job: UUID) -> None:
        with self.pool.connection() as db, db.transaction():
            export.make(db, job, self.options)

    def close(self) -> None:
        """Finish the export that is being made and begin no other."""
        self._worker.shutdown(cancel_futures=True)


def export_routes(app: FastAPI, server: Server, exporter: Exporter) -> None:
    """Add the addresses of exports to `app`, before those of resources."""
    _kick_offs(app, server, exporter)
    _results(app, server, exporter)


async def _in_thread(server: Server, work: Callable[[Db], T]) -> T:
    return await run_in_threadpool(server.reading, work)


def _kick_offs(app: FastAPI, server: Server, exporter: Exporter) -> None:
    async def kick_off(request: Request, *level: str) -> Response:
        ask = server.asking(request)
        require_kickoff(request, ask)
        asked = parameters(request, await server.body(request))
        lenient = "handling=lenient" in request.headers.get("prefer", "").replace(" ", "")

        def work(db: Db) -> UUID:
            found = wanted(db, level, asked, ask, lenient=lenient)
            query = f"?{request.url.query}" if request.url.query else ""
            return export.start(db, replace(found, url=found.url + query, types=ask.rights.types(found.types)))

        job = await _in_thread(server, work)
        exporter.submit(job)
        body = dumps(all_ok("the export has been accepted"))
        return Response(body, 202, {"Content-Location": f"{ask.base}/$export/{job}"}, media_type=FHIR_JSON)

    @app.api_route("/$export", methods=["GET", "POST"])
    async def system(request: Request) -> Response:
        return await kick_off(request)

    @app.api_route("/Patient/$export", methods=["GET", "POST"])
    async def patients(request: Request) -> Response:
        return await kick_off(request, "Patient")

    @app.api_route("/Group/{id_}/$export", methods=["GET", "POST"])
    async def group(request: Request, id_: str) -> Response:
        return await kick_off(request, "Group", id_)


def _results(app: FastAPI, server: Server, exporter: Exporter) -> None:
    @app.get("/$export/{id_}")
    async def status(request: Request, id_: str) -> Response:
        ask = server.asking(request)

        def work(db: Db) -> tuple[Job, list[File]]:
            job = _there(export.job_of(db, _uuid(id_), polled=True))
            return job, export.files(db, job.id)

        job, files = await _in_thread(server, work)
        return _status(job, files, ask, exporter.options, secured=server.keeper is not None)

    @app.delete("/$export/{id_}")
    async def cancel(request: Request, id_: str) -> Response:
        server.asking(request)
        if not await _in_thread(server, lambda db: export.cancel(db, _uuid(id_))):
            raise _gone()
        return Response(dumps(all_ok("the export has been cancelled")), 202, media_type=FHIR_JSON)

    @app.get("/$export/{id_}/{name}")
    async def download(request: Request, id_: str, name: str) -> Response:
        server.require_known(request)

        def work(db: Db) -> tuple[Job, File]:
            job = _there(export.job_of(db, _uuid(id_)))
            return job, _there(next((file for file in export.files(db, job.id) if file.name == name), None))

        job, file = await _in_thread(server, work)
        return StreamingResponse(export.lines(server.pool, job, file), media_type="application/fhir+ndjson")


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _gone() from None


def _gone() -> Refusal:
    return Refusal(404, "there is no such export: it was cancelled, its time is up, or it never was")


def _there(found: T | None) -> T:
    if found is None:
        raise _gone()
    return found


def _status(job: Job, files: list[File], ask: Asking, options: ExportOptions, *, secured: bool) -> Response:
    if job.state != "done" or job.polled <= options.polls:
        progress = "the files are ready" if job.state == "done" else "the files are being found"
        return Response(status_code=202, headers={"Retry-After": str(options.retry_after), "X-Progress": progress})
    headers = {"Expires": http_date(job.expires)} if job.expires else {}
    manifest: dict[str, Any] = {
        "transactionTime": instant(job.at),
        "request": job.wanted.url,
        "requiresAccessToken": secured,
        "output": [_item(job, file, ask) for file in files if file.kind == "output"],
        "deleted": [_item(job, file, ask) for file in files if file.kind == "deleted"],
        "error": [],
    }
    return Response(dumps(manifest), 200, headers, media_type="application/json")


def _item(job: Job, file: File, ask: Asking) -> dict[str, Any]:
    return {"type": file.type, "url": f"{ask.base}/$export/{job.id}/{file.name}", "count": file.lines}
