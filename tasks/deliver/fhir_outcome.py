"""What a FHIR server's answers mean. Of an OperationOutcome only issue codes and places are kept, never its texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from mappings.engine import json
from tasks.deliver.fhir_order import Entry
from tasks.deliver.port import Outcome
from tasks.model import Finding

_CODE = re.compile(r"[a-z][a-z-]{1,31}")
_PATH = re.compile(r"[A-Za-z]+(?:\[\d+\])?(?:\.[A-Za-z]+(?:\[\d+\])?)*")
_ENTRY = re.compile(r"Bundle\.entry\[(\d+)\](?:\.resource)?(?:\.ofType\([A-Za-z]+\)|/\*[^*]*\*/)?\.?")
_LINE = re.compile(r"Line\[\d+\]")
_MESSAGES = {"http://hl7.org/fhir/java-core-messageId", "http://terminology.hl7.org/CodeSystem/operation-outcome"}
_MESSAGE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,99}")
_HAPI = re.compile(r"(?:^|was: )(HAPI-\d{4})")
_HAPI_PLACE = re.compile(r'specified in path: ([A-Za-z.]+\(?)|was: HAPI-\d{4}: \[element="([A-Za-z]+)"\]')
_HAPI_STORED = "https://hapifhir.io/fhir/CodeSystem/hapi-fhir-storage-response-code"
_WHAT = r"(?:entr(?:y|ies)|bundle|batch|transaction|request|payload|resources)"
_TOO_MUCH = r"(?:max|limit|exceed|too many|too large|too big|more (?:\w+ ){0,3}than|at most)"
_SIZE_WORDS = re.compile(rf"{_WHAT}.{{0,80}}{_TOO_MUCH}|{_TOO_MUCH}.{{0,80}}{_WHAT}", re.IGNORECASE | re.DOTALL)
RETRIED = frozenset({408, 424, 425, 429, 500, 502, 503, 504})


def read_object(body: bytes) -> dict[str, Any]:
    """Return an answer's body as an object; empty where it is none (HTML of a proxy, nothing at all)."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def errors(outcome: Any) -> list[Mapping[str, Any]]:
    """Return the issues of an OperationOutcome that say that it went wrong."""
    if not isinstance(outcome, dict) or outcome.get("resourceType") != "OperationOutcome":
        return []
    issues = outcome.get("issue")
    found = [issue for issue in issues if isinstance(issue, dict)] if isinstance(issues, list) else []
    return [issue for issue in found if issue.get("severity") in {"error", "fatal"}]


def finding(outcome: Any, entry: Entry, code: str) -> Finding:
    """Return the first error of an OperationOutcome as a finding: its code, and the element it names."""
    named = entry.item.resource_type
    for issue in errors(outcome):
        places = [_place(text, named) for text in _texts(issue)]
        return Finding(_word(issue) or f"http-{code}", next((place for place in places if place), named), "error")
    return Finding(f"http-{code}", named, "error")


def suspects(outcome: Any) -> set[int]:
    """Return the numbers of the entries that the errors of a bundle's OperationOutcome name."""
    found = (_ENTRY.match(text) for issue in errors(outcome) for text in _texts(issue))
    return {int(match[1]) for match in found if match}


def about_size(status: int, outcome: Any, entries: int) -> Literal["", "entries", "bytes"]:
    """Say whether a bundle of so many entries was refused for its size, and which; texts are looked at and not kept."""
    for issue in errors(outcome):
        details = issue.get("details")
        texts = [_diagnostics(issue), str(details.get("text", "")) if isinstance(details, dict) else ""]
        wordy = [text for text in texts if _SIZE_WORDS.search(text)]
        if any(re.search(rf"\b{entries}\b", text) for text in wordy):
            return "entries"
        if status != 413 and (wordy or issue.get("code") in {"too-long", "too-costly"}):
            return "entries"
    return "bytes" if status == 413 else ""


def _texts(issue: Mapping[str, Any]) -> Iterable[str]:
    for name in ("expression", "location"):
        listed = issue.get(name)
        yield from (text for text in (listed if isinstance(listed, list) else []) if isinstance(text, str))
    if place := _HAPI_PLACE.search(_diagnostics(issue)):
        yield place[1] or place[2]


def _word(issue: Mapping[str, Any]) -> str:
    """Return what went wrong as a code: the validator's or HAPI's own number of the message, else the issue's code."""
    own = [code for system, code in _codings(issue) if system in _MESSAGES and _MESSAGE.fullmatch(code)]
    said = [*own, *reversed(_HAPI.findall(_diagnostics(issue)))]
    if said:
        return str(said[0]).lower().replace("_", "-")
    code = issue.get("code")
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""


def _diagnostics(issue: Mapping[str, Any]) -> str:
    text = issue.get("diagnostics")
    return text if isinstance(text, str) else ""


def _codings(issue: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    details = issue.get("details")
    listed = details.get("coding") if isinstance(details, dict) else None
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict):
            yield str(one.get("system", "")), str(one.get("code", ""))


def _place(text: str, resource_type: str) -> str:
    """Return the element that an expression names; what stands in brackets or quotes may be a value and is cut off."""
    inside = _ENTRY.sub("", text, count=1)
    match = _PATH.match(inside)
    if not match or match[0].startswith("Bundle") or _LINE.match(inside):
        return ""
    path = match[0]
    if inside[match.end() :].startswith("("):
        path = path.rpartition(".")[0]
    return path if path.partition(".")[0].partition("[")[0][:1].isupper() else f"{resource_type}.{path}"


def status_of(response: Mapping[str, Any]) -> int:
    """Return the status of an entry's response (`201 Created`, `200`); 0 where it says none."""
    text = str(response.get("status", ""))[:3]
    return int(text) if text.isdigit() else 0


def verdict(entry: Entry, status: int, outcome: Any, etag: str = "", location: str = "") -> Outcome | None:
    """Return what an entry's own status means; None where the thing must be looked at again (conflict, no status)."""
    code, item = str(status), entry.item
    if status in {409, 412} or not status:
        return None
    if entry.deletes and status in {404, 410}:
        return Outcome(item, "unchanged", code)
    if status == 304 or (200 <= status < 300 and not errors(outcome)):
        known, at = remote_id(location), version(etag, location)
        if status == 304 or _is_unchanged(outcome):
            return Outcome(item, "unchanged", code, remote_id=known, remote_version=at)
        return Outcome(item, "sent", code, remote_id=known, remote_version=at)
    if status in RETRIED or status == 401:
        return Outcome(item, "retry", code, finding(outcome, entry, code))
    return Outcome(item, "refused", code, finding(outcome, entry, code))


def _is_unchanged(outcome: Any) -> bool:
    """Say whether a server took something and tells that it had it already, so that it made no version of it."""
    issues = outcome.get("issue") if isinstance(outcome, dict) else None
    told = [issue for issue in (issues if isinstance(issues, list) else []) if isinstance(issue, dict)]
    codings = [coding for issue in told for coding in _codings(issue)]
    return any(system == _HAPI_STORED and code.endswith("_NO_CHANGE") for system, code in codings)


def remote_id(location: str) -> str | None:
    """Return the id in a location (`…/Patient/123/_history/1`)."""
    parts = location.partition("/_history/")[0].rstrip("/").split("/")
    return parts[-1] if len(parts) > 1 else None


def version(etag: str, location: str) -> str | None:
    """Return the version in an ETag (`W/"2"`) or a location."""
    return etag.removeprefix("W/").strip('"') or location.partition("/_history/")[2] or None


def same(sent: Any, found: Any) -> bool:
    """Say whether a server holds what was sent; what it adds in `meta` and as a narrative is its own."""
    if not isinstance(sent, dict) or not isinstance(found, dict):
        return bool(sent == found)
    names = (sent.keys() | found.keys()) - {"meta", "id"} - ({"text"} if "text" not in sent else set())
    return _has(sent.get("meta") or {}, found.get("meta") or {}) and all(
        sent.get(name) == found.get(name) for name in names
    )


def _has(sent: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Say whether all that was sent in `meta` is there: more tags and profiles may stand beside it."""
    return all(
        all(one in found.get(name, []) for one in value) if isinstance(value, list) else found.get(name) == value
        for name, value in sent.items()
        if name not in {"versionId", "lastUpdated", "source"}
    )
