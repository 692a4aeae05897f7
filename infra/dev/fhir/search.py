"""Search (FHIR R4, Search): the SQL, the pages, the Bundle.

A search is answered as of the moment of its first page: the token in a `next` link says that moment and the last
version shown, so that nothing is skipped or shown twice while others write. Versions are numbered in the order of
their commits, which makes `_sort=_lastUpdated` the order of their numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import msgspec

from infra.dev.fhir.criteria import MOST, Criteria, Page, Pairs, criteria
from infra.dev.fhir.definitions import PATIENT_ELEMENTS, RESOURCE_TYPES, parameters_of
from infra.dev.fhir.protocol import Asking
from infra.dev.fhir.store import COLUMNS, Db, Version, current, now
from infra.dev.fhir.terms import references
from mappings.engine.json import loads


def find(db: Db, wanted: Criteria, limit: int) -> list[Version]:
    """Return up to `limit` current versions that match, for a condition; the page is not looked at."""
    moment = now(db)
    return _fetch(db, wanted, Page(moment, 0), limit)


def search(db: Db, kind: str, pairs: Pairs, ask: Asking) -> dict[str, Any]:
    """Return the searchset Bundle of one page."""
    wanted = criteria(kind, pairs, ask)
    page = wanted.page or Page(now(db), 0)
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
    if wanted.total or wanted.summary_only:
        bundle["total"] = _count(db, wanted, page)
    own = wanted.used if wanted.page is None else [*wanted.used, ("_page", wanted.page.token())]
    bundle["link"] = [{"relation": "self", "url": _url(ask, kind, own)}]
    if wanted.summary_only or wanted.count == 0:
        return bundle
    rows = _fetch(db, wanted, page, wanted.count + 1)
    if len(rows) > wanted.count:
        following = replace(page, after=rows[wanted.count - 1].vid)
        url = _url(ask, kind, [*wanted.used, ("_page", following.token())])
        bundle["link"].append({"relation": "next", "url": url})
    if rows:
        matches = rows[: wanted.count]
        bundle["entry"] = [_entry(version, ask) for version in matches]
        bundle["entry"] += [_entry(one, ask, "include") for one in _along(db, wanted, matches, ask)]
    return bundle


def _along(db: Db, wanted: Criteria, matches: list[Version], ask: Asking) -> list[Version]:
    """Return what comes along with the matches (R4 Search 3.1.1.5.4), each once and no match again.

    A parameter is taken for the element of its name, `patient` for what is searched by that name.
    """
    found: dict[tuple[str, str], Version] = {}
    for include in wanted.include:
        _, name, kind = [*include.split(":"), ""][:3]
        keys = {key for version in matches for key in _links(version, name, ask) if kind in ("", key[0])}
        found |= {key: one for key, one in current(db, sorted(keys)).items() if not one.deleted}
    for include in wanted.revinclude:
        kind, name, _ = [*include.split(":"), ""][:3]
        pairs = [(name, ",".join(f"{version.type}/{version.id}" for version in matches))]
        if name in parameters_of(kind):
            found |= {one.key: one for one in find(db, criteria(kind, pairs, ask), MOST)}
    own = {version.key for version in matches}
    return [version for key, version in sorted(found.items()) if key not in own]


def _links(version: Version, name: str, ask: Asking) -> list[tuple[str, str]]:
    paths = PATIENT_ELEMENTS.get(version.type, ()) if name == "patient" else (name,)
    links = references(loads(version.content or "{}"), paths, ask.base)
    return [(kind, ident) for kind, _, ident in (link.partition("/") for link in links) if kind in RESOURCE_TYPES]


def _entry(version: Version, ask: Asking, mode: str = "match") -> dict[str, Any]:
    return {
        "fullUrl": f"{ask.base}/{version.type}/{version.id}",
        "resource": msgspec.Raw((version.content or "").encode()),
        "search": {"mode": mode},
    }


def _url(ask: Asking, kind: str, pairs: Pairs) -> str:
    return f"{ask.base}/{kind}" + (f"?{urlencode(pairs)}" if pairs else "")


def _conditions(wanted: Criteria, page: Page) -> tuple[str, list[Any]]:
    where = ["v.type = %s", "v.updated <= %s", "v.superseded > %s", "NOT v.deleted", *wanted.where]
    return " AND ".join(where), [wanted.kind, page.moment, page.moment, *wanted.values]


def _count(db: Db, wanted: Criteria, page: Page) -> int:
    where, values = _conditions(wanted, page)
    row = db.execute(f"SELECT count(*) FROM version v WHERE {where}", values).fetchone()  # noqa: S608
    return int(row[0]) if row else 0


def _fetch(db: Db, wanted: Criteria, page: Page, limit: int) -> list[Version]:
    where, values = _conditions(wanted, page)
    if page.after:
        where += " AND v.vid < %s" if wanted.descending else " AND v.vid > %s"
        values.append(page.after)
    order = "DESC" if wanted.descending else "ASC"
    query = f"SELECT {COLUMNS} FROM version v WHERE {where} ORDER BY v.vid {order} LIMIT %s"  # noqa: S608
    return [Version(*row) for row in db.execute(query, [*values, limit])]
