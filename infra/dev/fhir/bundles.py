"""Transaction and batch bundles (FHIR R4, RESTful API 3.1.0.11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Any

import msgspec

from infra.dev.fhir.outcome import Refusal, all_ok, outcome
from infra.dev.fhir.protocol import Answer, Asking, etag, location
from infra.dev.fhir.store import instant
from infra.dev.fhir.writing import READING, WRITING, Entry, naming, require_right, require_sound
from tasks.model import Resource

Perform = Callable[[list[Entry]], list[Answer]]


def process(bundle: Resource, ask: Asking, perform: Perform) -> dict[str, Any]:
    """Return the response to `bundle`; `perform` carries out its entries in one database transaction of its own.

    Raises `Refusal` for a transaction of which any entry is refused:
    then nothing has been written.
    """
    kind, items = bundle.get("type"), bundle.get("entry", [])
    if bundle["resourceType"] != "Bundle" or kind not in ("transaction", "batch") or not isinstance(items, list):
        raise Refusal(400, "what is posted here is a Bundle of type transaction or batch", expression="Bundle.type")
    run = _transaction if kind == "transaction" else _batch
    found = {"resourceType": "Bundle", "type": f"{kind}-response"}
    entries = run(items, ask, perform)
    return found | ({"entry": entries} if entries else {})


def _transaction(items: list[Any], ask: Asking, perform: Perform) -> list[dict[str, Any]]:
    entries = [_sound(item, n, ask) for n, item in enumerate(items)]
    return [response(answer, ask) for answer in perform(entries)]


def _batch(items: list[Any], ask: Asking, perform: Perform) -> list[dict[str, Any]]:
    done = []
    for n, item in enumerate(items):
        try:
            done.append(response(perform([_sound(item, n, ask)])[0], ask))
        except Refusal as refusal:
            done.append({"response": {"status": _status(refusal.status), "outcome": outcome(*refusal.issues)}})
    return done


def _sound(item: Any, n: int, ask: Asking) -> Entry:
    entry = _entry(item, n, ask)
    with naming(entry):
        require_right(entry, ask)
        if entry.method in WRITING:
            require_sound(entry)
        elif entry.method not in READING:
            raise Refusal(405, "this server knows GET, HEAD, POST, PUT and DELETE in a bundle")
    return entry


def _entry(item: Any, n: int, ask: Asking) -> Entry:
    request = item.get("request") if isinstance(item, dict) else None
    if not isinstance(request, dict) or not all(isinstance(request.get(k), str) for k in ("method", "url")):
        raise Refusal(400, "an entry has no request with method and url", code="required").at(n)
    path, _, query = request["url"].removeprefix(ask.base).strip("/").partition("?")
    entry = Entry(request["method"], path.strip("/"), query, item.get("resource"), item.get("fullUrl"), index=n)
    return replace(
        entry,
        if_match=request.get("ifMatch"),
        if_none_match=request.get("ifNoneMatch"),
        if_modified_since=request.get("ifModifiedSince"),
        if_none_exist=request.get("ifNoneExist"),
    )


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"


def response(answer: Answer, ask: Asking) -> dict[str, Any]:
    """Return one entry of the response bundle."""
    said: dict[str, Any] = {"status": _status(answer.status)}
    version = answer.version
    if version is not None and version.version:
        said |= {"etag": etag(version.version), "lastModified": instant(version.updated)}
        if answer.written and not version.deleted:
            said["location"] = location(version, ask.base)
    if answer.written and ask.returned == "OperationOutcome":
        said["outcome"] = all_ok("written")
    entry: dict[str, Any] = {"response": said}
    if answer.body is not None:
        entry["resource"] = answer.body
    elif _wanted(answer, ask) and version is not None and version.content:
        entry["resource"] = msgspec.Raw(version.content.encode())
    return entry


def _wanted(answer: Answer, ask: Asking) -> bool:
    return ask.returned == "representation" if answer.written else answer.status != 304
