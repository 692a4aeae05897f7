"""The HTTP intake: FHIR resources, Bundles, `$process-message`, and files; 202 when they are durably kept.

FHIR R4, "RESTful API", "Asynchronous Request Pattern" and "Messaging"; RFC 6750, RFC 7578, RFC 9110.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import FastAPI, Header, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Route

from tasks.errors import SluiceError
from tasks.failpoints import reached
from tasks.listen import fhir_body, metrics, notify, upload
from tasks.listen.fhir_body import Bad, Posted
from tasks.listen.health import page
from tasks.listen.intake import FHIR_FORMATS, Intake, failure
from tasks.listen.notify import Notified
from tasks.listen.openapi import FHIR_JSON, OUTCOME, bundle_body, file_body, resource_body, responses
from tasks.listen.scopes import FILES
from tasks.log import get_logger
from tasks.validate.structure import structure

_WORDS = {404: "not-found", 405: "not-supported"}

FeedName = Annotated[str, Path(description="A feed's name.", pattern=r"^[A-Za-z0-9_.-]{1,128}$")]
Type = Annotated[str, Path(description="A FHIR resource type.", pattern=r"^[A-Z][A-Za-z]{1,63}$")]
Id = Annotated[str, Path(description="A resource's id.", pattern=r"^[A-Za-z0-9\-.]{1,64}$")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="The same key and body again get the same answer.", max_length=200),
]


def build(intakes: Sequence[Intake], ready: Callable[[], bool], notified: Sequence[Notified] = ()) -> FastAPI:
    """Return the application for feeds; `ready` says whether it can take anything now.

    `notified` are feeds that are polled, whose servers tell of changes.
    """
    feeds = {intake.feed.name: intake for intake in intakes}
    app = FastAPI(
        title="Sluice intake",
        description="FHIR resources, Bundles, messages and files from partners. 202 means durably kept.",
        version="1",
    )
    app.add_exception_handler(Bad, _on_bad)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(SluiceError, _on_failure)
    app.add_exception_handler(Exception, _on_unexpected)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    told = {one.feed.name: one for one in notified}
    app.state.feeds = frozenset((*feeds, *told))
    _fhir(app, feeds)
    _files(app, feeds)
    if told:
        _notices(app, told)
    for path in ("/healthz", "/readyz", "/metrics"):
        app.add_api_route(path, _page(path, ready), methods=["GET"], include_in_schema=False)
    return app


def _fhir(app: FastAPI, feeds: Mapping[str, Intake]) -> None:
    """The FHIR endpoint of every feed whose format is FHIR: `/<feed>/fhir`."""
    options: dict[str, Any] = {
        "status_code": 202,
        "responses": responses(),
        "tags": ["fhir"],
    }

    async def post(
        request: Request, feed: str, key: str | None, read: Callable[[bytes, str], Posted], kind: str | None = None
    ) -> Response:
        intake = _feed(feeds, feed, fhir=True, kind=kind)
        who = await intake.client(request)
        metrics.RECEIVED.labels(feed, "http").inc()
        posted = read(await intake.body(request), intake.feed.format)
        return await keep(intake, who, posted, key)

    async def keep(intake: Intake, who: Any, posted: Posted, key: str | None) -> Response:
        intake.permit(who, posted.actions)
        outcome = await intake.keep(posted, key)
        where = f"{outcome.delivery_id}:{outcome.start}"
        answer = _outcome(
            intake.feed.name, 202, "informational", f"kept at {where}; it is processed later", severity="information"
        )
        answer.background = BackgroundTask(reached, "acknowledged")
        return answer

    def taking(body: dict[str, Any]) -> dict[str, Any]:
        return {**options, "openapi_extra": {"requestBody": body}}

    @app.post("/{feed}/fhir", summary="Post a Bundle", **taking(bundle_body()))
    async def bundle(request: Request, feed: FeedName, key: Key = None) -> Response:
        return await post(request, feed, key, fhir_body.bundle)

    @app.post(
        "/{feed}/fhir/$process-message",
        summary="Post a message (a Bundle of type message)",
        **taking(bundle_body(message=True)),
    )
    async def message(request: Request, feed: FeedName, key: Key = None) -> Response:
        return await post(request, feed, key, lambda body, form: fhir_body.bundle(body, form, message=True))

    @app.post("/{feed}/fhir/{kind}", summary="Post a resource", **taking(resource_body()))
    async def create(request: Request, feed: FeedName, kind: Type, key: Key = None) -> Response:
        if kind == "Bundle":
            return await post(request, feed, key, fhir_body.bundle)
        return await post(request, feed, key, lambda body, form: fhir_body.resource(body, kind, None, form), kind)

    @app.put("/{feed}/fhir/{kind}/{ident}", summary="Put a resource", **taking(resource_body()))
    async def update(request: Request, feed: FeedName, kind: Type, ident: Id, key: Key = None) -> Response:
        return await post(request, feed, key, lambda body, form: fhir_body.resource(body, kind, ident, form), kind)

    @app.delete("/{feed}/fhir/{kind}/{ident}", summary="Delete a resource", **options)
    async def delete(request: Request, feed: FeedName, kind: Type, ident: Id, key: Key = None) -> Response:
        intake = _feed(feeds, feed, fhir=True, kind=kind)
        who = await intake.client(request)
        metrics.RECEIVED.labels(feed, "http").inc()
        return await keep(intake, who, fhir_body.deletion(kind, ident, intake.feed.format), key)


def _files(app: FastAPI, feeds: Mapping[str, Intake]) -> None:
    """Uploads for every feed: `/<feed>/files`."""

    @app.post(
        "/{feed}/files",
        summary="Upload files",
        status_code=202,
        responses=responses(files=True),
        openapi_extra={"requestBody": file_body()},
        tags=["files"],
    )
    async def files(request: Request, feed: FeedName) -> Response:
        intake = _feed(feeds, feed, fhir=False)
        intake.permit(await intake.client(request), (FILES,))
        metrics.RECEIVED.labels(feed, "http").inc()
        media, _, rest = request.headers.get("content-type", "").partition(";")
        boundary = _parameter(rest, "boundary")
        if media.strip().lower() != "multipart/form-data" or not boundary:
            raise Bad(415, "not-supported", "multipart/form-data with a boundary is needed")
        events = upload.files(intake.guarded(request.stream()), boundary, intake.options.max_file)
        taken = await intake.uploads.take(events)
        metrics.ACKNOWLEDGED.labels(feed, "202").inc()
        return JSONResponse(
            [
                {"delivery": one.delivery, "verdict": one.verdict, "size": one.size, "sha256": one.sha256}
                for one in taken
            ],
            202,
        )


def _notices(app: FastAPI, feeds: Mapping[str, Notified]) -> None:
    """Where servers tell of changes: `/<feed>/notify`, with the type and id behind it where they say so there."""

    async def take(request: Request, feed: FeedName, kind: Type | None = None, ident: Id | None = None) -> Response:
        one = feeds.get(feed)
        if one is None:
            raise Bad(404, "not-found", "no feed here is told of changes under this name")
        one.require_known(request)
        metrics.RECEIVED.labels(feed, "notify").inc()
        body = await one.body(request)
        await one.keep(notify.told(b"" if request.method == "DELETE" else body, kind, ident))
        return _outcome(feed, 200, "informational", "it is read again", severity="information")

    async def something(request: Request, feed: FeedName) -> Response:
        return await take(request, feed)

    async def of_type(request: Request, feed: FeedName, kind: Type) -> Response:
        return await take(request, feed, kind)

    async def of_id(request: Request, feed: FeedName, kind: Type, ident: Id) -> Response:
        return await take(request, feed, kind, ident)

    said = {code: answer for code, answer in responses().items() if code != 202}
    said[200] = {"description": "Noted; it is read again", "content": {FHIR_JSON: {"schema": OUTCOME}}}
    for path, endpoint, methods in (
        ("/{feed}/notify", something, ("POST", "PUT")),
        ("/{feed}/notify/{kind}", of_type, ("POST", "PUT")),
        ("/{feed}/notify/{kind}/{ident}", of_id, ("POST", "PUT", "DELETE")),
    ):
        for method in methods:
            app.add_api_route(
                path,
                endpoint,
                methods=[method],
                responses=said,
                tags=["notify"],
                summary="Tell of a change",
                operation_id=f"{endpoint.__name__}-{method.lower()}",
            )


def _feed(feeds: Mapping[str, Intake], name: str, *, fhir: bool, kind: str | None = None) -> Intake:
    intake = feeds.get(name)
    if intake is None or (fhir and intake.feed.format not in FHIR_FORMATS):
        raise Bad(404, "not-found", "no such feed here" if intake is None else "this feed takes files alone")
    if kind is not None and kind not in structure(intake.feed.fhir_version).resources:
        raise Bad(404, "not-supported", "FHIR has no such resource type")
    return intake


def _parameter(text: str, name: str) -> str:
    for part in text.split(";"):
        key, _, value = part.strip().partition("=")
        if key.lower() == name:
            return value.strip().strip('"')[:200]
    return ""


def _outcome(
    feed: str, status: int, code: str, text: str, place: str | None = None, *, severity: str = "error"
) -> JSONResponse:
    issue = {"severity": severity, "code": code, "diagnostics": text, **({"expression": [place]} if place else {})}
    metrics.ACKNOWLEDGED.labels(feed, str(status)).inc()
    return JSONResponse({"resourceType": "OperationOutcome", "issue": [issue]}, status, media_type=FHIR_JSON)


def _page(path: str, ready: Callable[[], bool]) -> Callable[[], Awaitable[Response]]:
    async def show() -> Response:
        status, media, body = page(path, ready)
        return Response(body, status, media_type=media)

    return show


def _known(request: Request) -> str:
    """The feed of a request, or nothing: a stranger's words are no metric's label."""
    known: Any = request.path_params.get("feed", "")
    return known if known in getattr(request.app.state, "feeds", ()) else ""


async def _on_bad(request: Request, error: Exception) -> Response:
    assert isinstance(error, Bad)  # noqa: S101
    metrics.REFUSED.labels(_known(request), error.code).inc()
    answer = _outcome(_known(request), error.status, error.code, error.text, error.place)
    if error.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="sluice"'
    if error.retry is not None:
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry)))
    return answer


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    answer = _outcome(
        _known(request), error.status_code, _WORDS.get(error.status_code, "processing"), str(error.detail)
    )
    answer.headers.update(error.headers or {})
    if error.status_code == 405:
        # The framework names the methods of the first route alone that has this path (RFC 9110, 15.5.6 wants all).
        answer.headers["Allow"] = ", ".join(_methods(request))
    return answer


def _methods(request: Request) -> list[str]:
    """The methods that the address of a request takes, in the order of the alphabet."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    of_path = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in of_path for method in route.methods or ()})


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    places = ", ".join(".".join(map(str, item["loc"])) for item in error.errors())
    return _outcome(_known(request), 404, "not-found", f"not acceptable: {places}")


async def _on_failure(request: Request, error: Exception) -> Response:
    assert isinstance(error, SluiceError)  # noqa: S101
    get_logger().error("not kept", kind=type(error).__name__, why=str(error))
    return await _on_bad(request, failure(error))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    get_logger().error("unexpected", kind=type(error).__name__)
    return _outcome(_known(request), 500, "exception", "an error of this server; nothing was kept")


async def _on_gone(request: Request, error: Exception) -> Response:
    return _outcome(_known(request), 400, "incomplete", "the sender broke off")
