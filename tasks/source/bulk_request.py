"""What is asked of a bulk server: the kick-off request and the base that its URL belongs to.

Source: FHIR Bulk Data Access 2.0 (and 3.0 where offered), "Kick-off Request".
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from tasks.errors import ConfigError
from tasks.http import check_url

ACCEPT = {"Accept": "application/fhir+json", "Prefer": "respond-async"}
_KICK_OFF = re.compile(r"/(Patient/|Group/[^/]+/)?\$export/?$")
_LEVEL = re.compile(r"/(Patient|Group/[^/]+)/?$")
_TYPE = re.compile(r"[A-Z][A-Za-z]+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One export, as the person or the feed file asked for it.

    - `url` is the server's base or a kick-off URL (`…/$export`, `…/Patient/$export`, `…/Group/x/$export`).
    - `since` and `until` are FHIR instants.
    """

    url: str
    types: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    group: str | None = None
    level: Literal["system", "patient"] = "system"
    type_filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    method: Literal["get", "post"] = "get"
    extra: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a part cannot be meant."""
        check_url(self.url, "the export's URL")
        for name in self.types:
            if not _TYPE.fullmatch(name):
                raise ConfigError("_type: holds something that is not a resource type, as Patient,Observation is")
        for name, value in (("_since", self.since), ("_until", self.until)):
            if value is not None and not _INSTANT.fullmatch(value):
                raise ConfigError(f"{name}: not an instant, as 2024-01-31T00:00:00Z or 2024-01-31T00:00:00-05:00 is")
        if self.group and _KICK_OFF.search(httpx.URL(self.url).path):
            raise ConfigError("the URL is a kick-off URL already: give the server's base together with a group")

    @property
    def base(self) -> str:
        """The server's base URL: what its `.well-known/smart-configuration` and its authorization belong to."""
        parsed = httpx.URL(self.url)
        path = _LEVEL.sub("", _KICK_OFF.sub("", parsed.path))
        return str(parsed.copy_with(path=path or "/", query=None, fragment=None)).rstrip("/")

    @property
    def kick_off(self) -> str:
        """The URL that the export is asked of, without parameters of ours."""
        parsed = httpx.URL(self.url)
        if _KICK_OFF.search(parsed.path):
            return str(parsed.copy_with(query=None, fragment=None)).rstrip("/")
        if self.group:
            return f"{self.base}/Group/{self.group}/$export"
        level = _LEVEL.search(parsed.path)
        part = f"/{level[1]}" if level else ("/Patient" if self.level == "patient" else "")
        return f"{self.base}{part}/$export"

    def parameters(self) -> list[tuple[str, str]]:
        """Return the parameters: those of the URL itself, then ours."""
        own = [
            ("_type", ",".join(self.types)),
            ("_since", self.since or ""),
            ("_until", self.until or ""),
            *(("_typeFilter", value) for value in self.type_filters),
            ("_elements", ",".join(self.elements)),
            *self.extra,
        ]
        given = [(name, value) for name, value in own if value]
        names = {name for name, _ in given}
        return [item for item in httpx.URL(self.url).params.multi_items() if item[0] not in names] + given

    def send(self, http: httpx.Client) -> httpx.Response:
        """Ask for the export; POST sends the parameters as a FHIR Parameters resource."""
        if self.method == "get":
            url = httpx.URL(self.kick_off)
            params = self.parameters()
            return http.get(url.copy_with(params=httpx.QueryParams(tuple(params))) if params else url, headers=ACCEPT)
        body = {"resourceType": "Parameters", "parameter": [_parameter(n, v) for n, v in self.parameters()]}
        return http.post(
            self.kick_off, content=json.dumps(body), headers={**ACCEPT, "Content-Type": "application/fhir+json"}
        )

    def fingerprint(self) -> str:
        """Return what tells this export from another one in the same folder."""
        said = [self.kick_off, sorted(self.parameters())]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def instant(text: str) -> str:
    """Return `text` as a FHIR instant; a date alone is its midnight in UTC."""
    return f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text


def _parameter(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "valueInstant" if name in {"_since", "_until"} else "valueString": value}
