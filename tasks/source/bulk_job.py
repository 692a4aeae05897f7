"""A bulk export job: kicked off, watched until it is complete, its manifest read, deleted at the end.

Source: FHIR Bulk Data Access 2.0, "Bulk Data Export Operation Request Flow"; paged manifests from 3.0.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import httpx

from tasks.errors import Permanent, SluiceError, Transient
from tasks.http import TRANSIENT_STATUS, Retry, asked_wait, place, plainly
from tasks.source.bulk_request import ExportRequest

Kind = Literal["output", "deleted", "error"]
KINDS: tuple[Kind, ...] = ("output", "deleted", "error")
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_CODE = re.compile(r"[a-z][a-z-]{1,31}")


class JobGone(SluiceError):
    """The server no longer knows the job or a file of it: only a new kick-off helps."""


class JobFailed(Permanent):
    """The server says that the export failed: asking for the same job again is of no use."""


@dataclass(frozen=True, slots=True)
class BulkFile:
    """One file of a manifest; `name` is stable: the type and its number in the manifest's order."""

    kind: Kind
    name: str
    type: str
    url: str
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete manifest, all its pages together.

    - `requires_token` is None where the server does not say whether files need the access token.
    - `pages` are the pages as the server sent them, for the record.
    - `problems` say what of it could not be used.
    """

    transaction_time: str
    requires_token: bool | None
    files: tuple[BulkFile, ...]
    problems: tuple[str, ...] = ()
    pages: tuple[Mapping[str, Any], ...] = ()

    def renewed_by(self, other: Manifest, gone: Container[str]) -> bool:
        """Say whether `other` lists the same files of the same moment, those in `gone` at other addresses."""
        if (other.transaction_time, len(other.files)) != (self.transaction_time, len(self.files)):
            return False
        pairs = list(zip(self.files, other.files, strict=True))
        same = all((one.name, one.count) == (two.name, two.count) for one, two in pairs)
        return same and all(one.url != two.url for one, two in pairs if one.name in gone)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, without the pages."""
        return {**asdict(self), "pages": []}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Return the manifest that `as_json` wrote."""
        files = tuple(BulkFile(**item) for item in value["files"])
        return cls(value["transaction_time"], value["requires_token"], files, tuple(value["problems"]))


@dataclass(slots=True)
class Watch:
    """How a job is watched: seconds between two looks where the server does not say, and who hears of progress.

    - The pause begins at `interval` and grows by `growth` up to `longest`, so that a job that is complete is not
      noticed later than a third of the time it took.
    - `ceiling` is the longest pause that a server can ask for.
    """

    interval: float = 1.0
    growth: float = 1.3
    longest: float = 30.0
    ceiling: float = 120.0
    said: Callable[[str], None] = field(default=lambda _: None)


def kick_off(http: httpx.Client, request: ExportRequest, retry: Retry) -> str:
    """Ask for the export and return the status URL.

    Too many requests, an export already running and 5xx are waited for within the budget of `retry`. Raises
    `Permanent` with the issue codes of an OperationOutcome, or `Transient`.
    """
    what = "the kick-off"
    for attempt in range(1, retry.attempts + 1):
        response = _try(lambda: request.send(http), what, request.kick_off)
        if response is not None:
            location = response.headers.get("content-location")
            # A server that refuses a second identical export may name the first one, which is then ours.
            if location and (response.status_code == 202 or response.status_code in {409, 429}):
                return str(response.url.join(location))
            if response.status_code not in {*TRANSIENT_STATUS, 409}:
                raise _refused(response, what)
        if attempt < retry.attempts:
            time.sleep(retry.delay(attempt, asked_wait(response, retry.ceiling)))
    if response is None:
        raise Transient(f"{what}: {place(request.kick_off)} cannot be reached")
    raise Transient(
        f"{what}: {said_by(response)} after {retry.attempts} attempts; nothing was started, try again later"
    )


def await_manifest(
    http: httpx.Client, status_url: str, retry: Retry, watch: Watch, wait: float | None
) -> Manifest | None:
    """Watch the job until it is complete and return its manifest; None where it is not after `wait` seconds.

    Raises `JobGone` where the server does not know the job any more, `JobFailed` where it says that it failed.
    """
    first = _await_page(http, status_url, retry, watch, wait)
    if first is None:
        return None
    pages, urls = [first], {status_url}
    while following := _next_page(pages[-1], status_url):
        if following in urls:
            raise JobFailed("the export's manifest: its pages lead back to each other; run again for a new one")
        urls.add(following)
        page = _await_page(http, following, retry, watch, None)
        assert page is not None  # noqa: S101 - waits without an end
        pages.append(page)
    return read_pages(pages, status_url)


def delete(http: httpx.Client, status_url: str) -> bool:
    """Tell the server that the job is done with; say whether it took it. A failure harms nobody: jobs expire."""
    with contextlib.suppress(httpx.HTTPError, SluiceError):
        return http.delete(status_url, headers={"Accept": "application/fhir+json"}).status_code in {200, 202, 204, 404}
    return False


def _await_page(
    http: httpx.Client, url: str, retry: Retry, watch: Watch, wait: float | None
) -> Mapping[str, Any] | None:
    what, failures, looks, began = "the export's status", 0, 0, time.monotonic()
    while True:
        response = _try(lambda: http.get(url, headers={"Accept": "application/json"}), what, url)
        asked = asked_wait(response, watch.ceiling)
        if response is not None and response.status_code == 200:
            page = _object(response)
            if page is not None and page.get("resourceType") != "OperationOutcome":
                return page
        if response is not None and response.status_code in {202, 429}:
            failures, looks = 0, looks + 1
            watch.said(_progress(response))
            pause = min(watch.interval * watch.growth ** min(looks - 1, 50), watch.longest) if asked is None else asked
            pause = max(pause, watch.interval)
        else:
            failures += 1
            if failures >= retry.attempts or _final(response):
                raise _status_error(response, url, failures)
            pause = retry.delay(failures, asked)
        if wait is not None and time.monotonic() - began + pause > wait:
            return None
        time.sleep(pause)


def _final(response: httpx.Response | None) -> bool:
    return response is not None and response.status_code not in {*TRANSIENT_STATUS, 200, 202}


def _status_error(response: httpx.Response | None, url: str, failures: int) -> SluiceError:
    if response is None:
        return Transient(f"the export's status: {place(url)} cannot be reached; the job may go on, run again to see")
    if response.status_code in {404, 410}:
        return JobGone(f"the export's status: {said_by(response)}: the server no longer knows the job")
    if response.status_code in {401, 403}:
        return Permanent(f"the export's status: {said_by(response)}: the job goes on, but this client may not see it")
    if issue_codes(response):
        return JobFailed(f"the export failed: {said_by(response)}; run again for a new one")
    return Transient(f"the export's status: {said_by(response)}, {failures} times in a row; run again to go on")


def _try(send: Callable[[], httpx.Response], what: str, url: str) -> httpx.Response | None:
    try:
        with plainly(what, url):
            return send()
    except Transient:
        return None


def _progress(response: httpx.Response) -> str:
    said = response.headers.get("x-progress", "")
    return said[:100] if said.isprintable() else ""


def _object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        value = response.json()
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _refused(response: httpx.Response, what: str) -> SluiceError:
    hint = {
        401: "; check the auth file",
        403: "; the client's scope does not allow it",
        404: "; the server may offer …/Patient/$export or …/Group/<id>/$export only",
    }.get(response.status_code, "")
    if response.is_success:
        return Permanent(f"{what}: {said_by(response)} without a Content-Location: not a bulk export")
    return Permanent(f"{what}: {said_by(response)}{hint}")


def said_by(response: httpx.Response) -> str:
    """Return host, status and the issue codes of an OperationOutcome; never its texts, which may quote a record."""
    codes = issue_codes(response)
    return f"{place(response.url)} answered {response.status_code}" + (f" ({', '.join(codes)})" if codes else "")


def issue_codes(response: httpx.Response) -> list[str]:
    """Return the distinct issue codes of the OperationOutcome that is the answer's body."""
    body = _object(response) or {}
    issues = body.get("issue") if body.get("resourceType") == "OperationOutcome" else None
    found = [issue.get("code") for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return list(dict.fromkeys(code for code in found if isinstance(code, str) and _CODE.fullmatch(code)))


def _next_page(page: Mapping[str, Any], base: str) -> str | None:
    links = page.get("link")
    for link in links if isinstance(links, list) else []:
        if isinstance(link, dict) and link.get("relation") == "next" and isinstance(link.get("url"), str):
            return str(httpx.URL(base).join(link["url"]))
    return None


def read_pages(pages: list[Mapping[str, Any]], status_url: str) -> Manifest:
    """Return the manifest that the pages make together; a file that several entries name is taken once."""
    problems: list[str] = []
    numbers: dict[tuple[Kind, str], int] = {}
    files: dict[str, BulkFile] = {}
    for kind, item in _items(pages, problems):
        url = item.get("url")
        if not isinstance(url, str) or not url:
            problems.append(f"{kind}: an entry of the manifest has no url")
            continue
        url = str(httpx.URL(status_url).join(url))
        if url in files:
            continue
        named = item.get("type")
        word = named if isinstance(named, str) and _TYPE.fullmatch(named) else _FALLBACK[kind]
        number = numbers[kind, word] = numbers.get((kind, word), -1) + 1
        count = item.get("count")
        count = count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None
        files[url] = BulkFile(kind, f"{_FOLDER[kind]}{word}.{number:03d}.ndjson", word, url, count)
    time_ = next((page["transactionTime"] for page in pages if isinstance(page.get("transactionTime"), str)), "")
    token = next(
        (page["requiresAccessToken"] for page in pages if isinstance(page.get("requiresAccessToken"), bool)), None
    )
    return Manifest(time_, token, tuple(files.values()), tuple(problems), tuple(pages))


_FALLBACK: dict[Kind, str] = {"output": "Resource", "deleted": "Bundle", "error": "OperationOutcome"}
_FOLDER: dict[Kind, str] = {"output": "", "deleted": "deleted/", "error": "error/"}


def _items(pages: list[Mapping[str, Any]], problems: list[str]) -> Iterator[tuple[Kind, Mapping[str, Any]]]:
    for page in pages:
        for kind in KINDS:
            listed = page.get(kind) or []
            for item in listed if isinstance(listed, list) else [None]:
                if isinstance(item, dict):
                    yield kind, item
                else:
                    problems.append(f"{kind}: an entry of the manifest is not an object")
