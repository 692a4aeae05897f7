"""What a GET asks for: read, vread, history and search, on the wire and inside a bundle (R4 RESTful API 3.1.0)."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from infra.dev.fhir import search
from infra.dev.fhir.capability import statement
from infra.dev.fhir.criteria import MOST, Page, Pairs
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import Answer, Asking, etag, require_id, require_type, version_of
from infra.dev.fhir.store import COLUMNS, Db, Key, Version, at_version, current, instant, now
from infra.dev.fhir.when import moment


class Known(NamedTuple):
    """What a client already has: its If-None-Match and If-Modified-Since."""

    tags: str | None = None
    since: str | None = None


def get(db: Db, ask: Asking, path: str, query: str, known: Known) -> Answer:
    """Return the answer to a GET of `path` (no slash at either end) and `query`.

    Raises `Refusal` where there is nothing such.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    match path.split("/"):
        case ["metadata"]:
            return Answer(200, body=statement(ask.base))
        case ["_history"]:
            return history(db, ask, (), pairs)
        case [kind]:
            return Answer(200, body=search.search(db, require_type(kind), pairs, ask))
        case [kind, "_history"]:
            return history(db, ask, (require_type(kind),), pairs)
        case [kind, id_, *rest]:
            return _instance(db, ask, (require_type(kind), require_id(id_)), rest, pairs, known=known)
    raise nothing_here()


def _instance(db: Db, ask: Asking, key: Key, rest: list[str], pairs: Pairs, *, known: Known) -> Answer:
    match rest:
        case []:
            version = read(db, key)
            return Answer(304 if _unmodified(version, *known) else 200, version)
        case ["_history"]:
            return history(db, ask, key, pairs)
        case ["_history", number]:
            return Answer(200, vread(db, key, number))
    raise nothing_here()


def nothing_here() -> Refusal:
    """Return the refusal of an address that means nothing."""
    return Refusal(404, "there is nothing at this address")


def read(db: Db, key: Key) -> Version:
    """Return the current version; raise `Refusal` 404 where there never was one, 410 where it is deleted."""
    return _there(current(db, [key]).get(key))


def vread(db: Db, key: Key, number: str) -> Version:
    """Return one version; raise `Refusal` 404 or, for a deletion, 410."""
    return _there(at_version(db, key, int(number)) if number.isdecimal() and len(number) < 10 else None)


def _there(version: Version | None) -> Version:
    if version is None:
        raise Refusal(404, "there is no such resource or version")
    if version.deleted:
        raise Refusal(410, "the resource has been deleted", headers={"ETag": etag(version.version)})
    return version


def _unmodified(version: Version, if_none_match: str | None, if_modified_since: str | None) -> bool:
    if if_none_match is not None:
        return if_none_match.strip() == "*" or version.version in map(version_of, if_none_match.split(","))
    if if_modified_since is None:
        return False
    try:
        return version.updated.replace(microsecond=0) <= parsedate_to_datetime(if_modified_since)
    except (ValueError, TypeError):
        return False


def history(db: Db, ask: Asking, key: tuple[str, ...], pairs: Pairs) -> Answer:
    """Return a history Bundle, newest first, of everything, a type or one resource; it pages as of its first page."""
    asked = dict(pairs)
    page = Page.of(asked["_page"]) if "_page" in asked else Page(now(db), 0)
    where, values = _conditions(key, page.moment, asked)
    row = db.execute(f"SELECT count(*) FROM version v WHERE {where}", values).fetchone()  # noqa: S608
    total = row[0] if row else 0
    if len(key) == 2 and not total and not current(db, [(key[0], key[1])]):
        raise Refusal(404, "there is no such resource")
    if page.after:
        where, values = f"{where} AND v.vid < %s", [*values, page.after]
    count = _count(asked)
    query = f"SELECT {COLUMNS} FROM version v WHERE {where} ORDER BY v.vid DESC LIMIT %s"  # noqa: S608
    rows = [Version(*row) for row in db.execute(query, [*values, count + 1])]
    base = "/".join((ask.base, *key, "_history"))
    used = [(name, value) for name, value in pairs if name in ("_since", "_count")]
    links = [{"relation": "self", "url": _url(base, [p for p in pairs if p in used or p[0] == "_page"])}]
    if len(rows) > count > 0:
        token = Page(page.moment, rows[count - 1].vid).token()
        links.append({"relation": "next", "url": _url(base, [*used, ("_page", token)])})
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "history", "total": total, "link": links}
    if rows[:count]:
        bundle["entry"] = [_entry(version, ask) for version in rows[:count]]
    return Answer(200, body=bundle)


def _conditions(key: tuple[str, ...], until: datetime, asked: dict[str, str]) -> tuple[str, list[Any]]:
    where, values = ["v.updated <= %s"], [until, *key]
    where += [f"v.{column} = %s" for column, _ in zip(("type", "id"), key, strict=False)]
    if "_since" in asked:
        where.append("v.updated >= %s")
        values.append(moment(asked["_since"]))
    return " AND ".join(where), values


def _count(asked: dict[str, str]) -> int:
    wanted = asked.get("_count", "100")
    if not wanted.isdecimal() or len(wanted) > 9:
        raise Refusal(400, "_count is not a number of 0 or more", code="value")
    return min(int(wanted), MOST)


def _url(base: str, pairs: Pairs) -> str:
    return base + (f"?{urlencode(pairs)}" if pairs else "")


def _entry(version: Version, ask: Asking) -> dict[str, Any]:
    status = "204 No Content" if version.deleted else "201 Created" if version.version == 1 else "200 OK"
    place = version.type if version.method == "POST" else f"{version.type}/{version.id}"
    entry: dict[str, Any] = {
        "fullUrl": f"{ask.base}/{version.type}/{version.id}",
        "request": {"method": version.method, "url": place},
        "response": {"status": status, "etag": etag(version.version), "lastModified": instant(version.updated)},
    }
    if version.content is not None:
        entry["resource"] = msgspec.Raw(version.content.encode())
    return entry
