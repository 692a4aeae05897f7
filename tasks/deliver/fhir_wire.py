"""The requests to a FHIR server: a bundle, one resource, a look at what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
import msgspec

from mappings.engine import json
from tasks.deliver.fhir_ids import Ids
from tasks.deliver.fhir_order import Entry
from tasks.deliver.fhir_outcome import read_object, same
from tasks.errors import ConfigError, Transient
from tasks.http import retry_after, translated

_JSON = "application/fhir+json"
# A search may otherwise be answered with what the same search found a minute ago (HAPI FHIR keeps results that long).
_HEADERS = {"Accept": _JSON, "Content-Type": _JSON, "Prefer": "return=minimal", "Cache-Control": "no-cache"}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or why there is none: it was not sent, or nobody knows what became of it.

    `status` is the HTTP status, 0 without an answer; `wait` are the seconds that it asks for.
    """

    status: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    wait: float | None = None
    etag: str = ""
    location: str = ""
    unknown: bool = False
    reason: str = ""


class Wire:
    """Talks to one server; `ids` says under which URLs things are written."""

    def __init__(
        self, http: httpx.Client, base: str, bundle: Literal["transaction", "batch", "none"], ids: Ids
    ) -> None:
        self._http, self._base, self._bundle, self.ids = http, base, bundle, ids

    def bundle(self, entries: Sequence[Entry]) -> Reply:
        """Send entries as one bundle."""
        together = {entry.key for entry in entries}
        parts = []
        for entry in entries:
            request: dict[str, Any] = {"method": "DELETE" if entry.deletes else "PUT", "url": self.ids.url(entry)}
            part: dict[str, Any] = {"fullUrl": self.ids.full_url(entry, self._base), "request": request}
            if not entry.deletes:
                part["resource"] = msgspec.Raw(self.ids.body(entry, together))
            parts.append(part)
        kind = "batch" if self._bundle == "batch" else "transaction"
        body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": parts})
        return self._send("POST", self._base, body)

    def one(self, entry: Entry, if_match: str | None = None) -> Reply:
        """PUT or DELETE one entry by itself; `if_match` is the version that it shall replace."""
        url = f"{self._base}/{self.ids.url(entry)}"
        more = {"If-Match": f'W/"{if_match}"'} if if_match else {}
        if entry.deletes:
            return self._send("DELETE", url, None, more)
        return self._send("PUT", url, self.ids.body(entry, ()), more)

    def look(self, entry: Entry) -> Reply:
        """Read what the server holds of an entry."""
        reply = self._send("GET", f"{self._base}/{self.ids.read_url(entry)}", None)
        if "?" not in self.ids.read_url(entry) or reply.status != 200:
            return reply
        found = _first(reply.body)
        return Reply(200, found) if found else Reply(404)

    def look_all(self, entries: Sequence[Entry]) -> list[Reply]:
        """Read what the server holds of several entries, with one batch where it takes one."""
        parts = [{"request": {"method": "GET", "url": self.ids.read_url(entry)}} for entry in entries]
        body = json.dumps({"resourceType": "Bundle", "type": "batch", "entry": parts})
        reply = (
            self._send("POST", self._base, body, {"Prefer": "return=representation"}) if len(entries) > 1 else Reply()
        )
        answers = reply.body.get("entry")
        if reply.status != 200 or not isinstance(answers, list) or len(answers) != len(entries):
            return [self.look(entry) for entry in entries]
        return [_looked(answer) for answer in answers]

    def search(self, url: str) -> str | None:
        """Return the id of the one resource that a search finds; None for none and for several."""
        reply = self._send("GET", f"{self._base}/{url}", None)
        entries = reply.body.get("entry") if reply.status == 200 else None
        if not isinstance(entries, list) or len(entries) != 1:
            return None
        found = _first(reply.body).get("id")
        return found if isinstance(found, str) else None

    def _send(self, method: str, url: str, body: bytes | None, headers: dict[str, str] | None = None) -> Reply:
        try:
            response = self._http.request(method, url, content=body, headers={**_HEADERS, **(headers or {})})
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            told = translated(error, "the destination", url)
            if isinstance(told, ConfigError):
                raise told from None
            return Reply(reason=type(error).__name__)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Reply(unknown=True, reason=type(error).__name__)
        except Transient as error:
            return Reply(wait=error.retry_after, reason="token")
        return Reply(
            response.status_code,
            read_object(response.content),
            retry_after(response.headers),
            response.headers.get("etag", ""),
            response.headers.get("location", "") or response.headers.get("content-location", ""),
        )


def holds(entry: Entry, reply: Reply, sent: bytes) -> bool | None:
    """Say whether an answer shows that the server has the entry as it was sent; None where it does not say."""
    if entry.deletes:
        return True if reply.status in {404, 410} else (False if reply.status == 200 else None)
    if reply.status in {404, 410}:
        return False
    return same(json.loads(sent), reply.body) if reply.status == 200 and reply.body else None


def _looked(answer: Any) -> Reply:
    answer = answer if isinstance(answer, dict) else {}
    response = answer.get("response")
    status = str(response.get("status", "")) if isinstance(response, dict) else ""
    resource = answer.get("resource")
    body = resource if isinstance(resource, dict) else {}
    if body.get("resourceType") == "Bundle" and body.get("type") == "searchset":
        body = _first(body)
        return Reply(200, body) if body else Reply(404)
    return Reply(int(status[:3]) if status[:3].isdigit() else 0, body)


def _first(bundle: dict[str, Any]) -> dict[str, Any]:
    entries = bundle.get("entry")
    first = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
    resource = first.get("resource")
    return resource if isinstance(resource, dict) else {}
