"""The development server's application: `create_app` puts the routes over one schema of a Postgres database."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

import psycopg
from fastapi import FastAPI, Request
from fastapi.responses import Response
from psycopg_pool import PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from infra.dev.fhir import reading
from infra.dev.fhir.auth import Auth, Keeper
from infra.dev.fhir.bundles import process
from infra.dev.fhir.capability import DEVELOPMENT_ONLY
from infra.dev.fhir.export import ExportOptions
from infra.dev.fhir.export_routes import Exporter, export_routes
from infra.dev.fhir.faults import Faults, FaultyServer
from infra.dev.fhir.outcome import Refusal, outcome
from infra.dev.fhir.protocol import FHIR_JSON, Answer, require_type, resource_in, respond
from infra.dev.fhir.schema import open_pool
from infra.dev.fhir.search import search
from infra.dev.fhir.server import Server
from infra.dev.fhir.store import Db
from infra.dev.fhir.tokens import token_routes
from infra.dev.fhir.writing import Entry, require_right, require_sound
from mappings.engine.json import dumps

T = TypeVar("T")
_NO_PAGES: dict[str, Any] = {"openapi_url": None, "docs_url": None, "redoc_url": None}
_log = logging.getLogger(__name__)


class FhirServer(FastAPI):
    """The application, with the faults that were asked for, and errors logged without their words."""

    faults: Faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        try:
            await FaultyServer(super().__call__, self.faults)(scope, receive, send)
        except Exception as error:
            _log.error("%s", place_of(error))


def create_app(
    database_url: str,
    schema: str = "fhir",
    base_url: str | None = None,
    *,
    largest_body: int = 64 * 1024 * 1024,
    exports: ExportOptions = ExportOptions(),  # noqa: B008 - frozen
    auth: Auth | None = None,
    faults: Faults | None = None,
) -> FhirServer:
    """Return the development server over `schema` of the database at `database_url`; its tables are made if missing.

    - `base_url` is what links start with, without a last slash; None takes what each request was sent to.
    - `largest_body` is in bytes.
    - `exports` says how bulk exports behave.
    - `auth` says who may come in; None is everybody.
    - `faults` are for tests: what is to go wrong, and when.

    Raises `ConfigError` where the database does not answer.
    """
    server = Server(
        open_pool(database_url, schema), base_url and base_url.rstrip("/"), largest_body, Keeper(auth) if auth else None
    )
    exporter = Exporter(server.pool, exports)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(exporter.resume)
        yield
        await run_in_threadpool(exporter.close)
        await run_in_threadpool(server.notifier.close)
        await run_in_threadpool(server.pool.close)

    app = FhirServer(title=DEVELOPMENT_ONLY, lifespan=lifespan, redirect_slashes=False, **_NO_PAGES)
    app.faults = faults or Faults()
    app.state.server = server
    _refusals(app)
    if server.keeper:
        token_routes(app, server, server.keeper)
    export_routes(app, server, exporter)
    _routes(app, server)
    return app


def _routes(app: FastAPI, server: Server) -> None:
    @app.post("/")
    async def bundle(request: Request) -> Response:
        ask = server.asking(request)
        data = await server.body(request)

        def work() -> Response:
            posted = resource_in(data, request.headers.get("content-type"))
            done = process(posted, ask, lambda entries: server.writing(entries, ask))
            return Response(dumps(done), media_type=FHIR_JSON)

        return await run_in_threadpool(work)

    @app.post("/{kind}/_search")
    async def search_by_form(request: Request, kind: str) -> Response:
        ask = server.asking(request)
        form = (await server.body(request)).decode("utf-8", "replace")
        pairs = parse_qsl(request.url.query, keep_blank_values=True) + parse_qsl(form, keep_blank_values=True)
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise Refusal(415, "a search is posted as application/x-www-form-urlencoded")
        require_right(Entry("GET", kind), ask)
        found = await run_in_threadpool(server.reading, lambda db: search(db, require_type(kind), pairs, ask))
        return respond(Answer(200, body=found), ask)

    @app.api_route("/{kind}", methods=["POST", "PUT", "DELETE"])
    @app.api_route("/{kind}/{id_}", methods=["PUT", "DELETE"])
    async def write(request: Request) -> Response:
        ask = server.asking(request)
        data = await server.body(request)

        def work() -> Response:
            entry = _entry(request, data)
            require_right(entry, ask)
            require_sound(entry)
            return respond(server.writing([entry], ask)[0], ask)

        return await run_in_threadpool(work)

    @app.api_route("/{path:path}", methods=["GET", "HEAD"])
    async def read(request: Request, path: str) -> Response:
        ask = server.asking(request)
        known = reading.Known(request.headers.get("if-none-match"), request.headers.get("if-modified-since"))
        query = request.url.query

        require_right(Entry("GET", path.strip("/")), ask)

        def work(db: Db) -> Answer:
            return reading.get(db, ask, path.strip("/"), query, known)

        return respond(await run_in_threadpool(server.reading, work), ask)


def _entry(request: Request, data: bytes) -> Entry:
    headers = request.headers
    query = urlencode(parse_qsl(request.url.query, keep_blank_values=True))
    return Entry(
        request.method,
        request.url.path.strip("/"),
        query if request.method != "POST" else "",
        None if request.method == "DELETE" else resource_in(data, headers.get("content-type")),
        if_match=headers.get("if-match"),
        if_none_exist=headers.get("if-none-exist"),
    )


def _refusals(app: FastAPI) -> None:
    """Answer every error with an OperationOutcome; what went wrong inside is told by its class and place alone."""

    def answer(status: int, refusal: Refusal) -> Response:
        return Response(dumps(outcome(*refusal.issues)), status, refusal.headers, media_type=FHIR_JSON)

    @app.exception_handler(Refusal)
    async def refused(_request: Request, refusal: Refusal) -> Response:
        return answer(refusal.status, refusal)

    @app.exception_handler(HTTPException)
    async def misdirected(_request: Request, error: HTTPException) -> Response:
        words = {404: "there is nothing at this address", 405: "this method is not one of this address"}
        headers = dict(error.headers or {})
        return answer(
            error.status_code, Refusal(error.status_code, words.get(error.status_code, "refused"), headers=headers)
        )

    @app.exception_handler(psycopg.DataError)
    async def unstorable(_request: Request, _error: Exception) -> Response:
        return answer(400, Refusal(400, "a value holds what the database cannot hold", code="value"))

    @app.exception_handler(RecursionError)
    async def too_deep(_request: Request, _error: Exception) -> Response:
        return answer(400, Refusal(400, "the body is nested too deeply", code="structure"))

    @app.exception_handler(psycopg.OperationalError)
    @app.exception_handler(PoolTimeout)
    async def away(_request: Request, _error: Exception) -> Response:
        words = "the server's database does not answer: try again"
        return answer(503, Refusal(503, words, code="transient", headers={"Retry-After": "1"}))

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, _error: Exception) -> Response:
        return answer(500, Refusal(500, "the server failed; its log says where"))


def place_of(error: BaseException) -> str:
    """Return the class of `error` and the line that raised it, without any of its words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {place}"
