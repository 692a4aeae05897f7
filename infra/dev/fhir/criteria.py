"""What a search asks for (FHIR R4, Search): the parameters read into conditions on `version v`."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.dev.fhir.definitions import parameters_of
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import Asking
from infra.dev.fhir.store import instant
from infra.dev.fhir.terms import local, term, token_forms
from infra.dev.fhir.when import Span, span
from mappings.engine.json import dumps, loads

Pairs = list[tuple[str, str]]
DEFAULT_COUNT, MOST = 100, 1000
_PASSIVE = frozenset({"_format", "_pretty"})


@dataclass(frozen=True, slots=True)
class Page:
    """Where a page starts: as of `moment`, after version `after`."""

    moment: datetime
    after: int

    def token(self) -> str:
        """Return the page as an opaque word for a URL."""
        return urlsafe_b64encode(dumps([instant(self.moment), self.after])).decode().rstrip("=")

    @classmethod
    def of(cls, token: str) -> Page:
        """Return the page of `token`; raise `Refusal` 400 where it is none of this server's."""
        try:
            moment, after = loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
            return cls(datetime.fromisoformat(moment), int(after))
        except (ValueError, TypeError):
            raise Refusal(400, "the page token is not one of this server's: search again") from None


@dataclass(slots=True)
class Criteria:
    """A search as this server understands it; `used` are the parameters that it follows, as they were given."""

    kind: str
    where: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    used: Pairs = field(default_factory=list)
    count: int = DEFAULT_COUNT
    descending: bool = False
    summary_only: bool = False
    total: bool = True
    page: Page | None = None
    include: list[str] = field(default_factory=list)
    revinclude: list[str] = field(default_factory=list)


def criteria(kind: str, pairs: Pairs, ask: Asking) -> Criteria:
    """Return the search that `pairs` ask for; what is unknown is left out, or refused where handling is strict."""
    found = Criteria(kind)
    known = parameters_of(kind)
    for name, value in pairs:
        base_name, _, modifier = name.partition(":")
        if name in _CONTROL:
            understood = _CONTROL[name](found, value)
        elif base_name in known:
            _require_modifier(base_name, modifier)
            _FILTERS[base_name](found, ask, modifier, value)
            understood = True
        else:
            understood = name in _PASSIVE
        if not understood and ask.strict:
            raise Refusal(400, "a search parameter is not supported, and Prefer: handling=strict was asked for")
        if understood and name not in _PASSIVE and name != "_page":
            found.used.append((name, value))
    return found


def _require_modifier(name: str, modifier: str) -> None:
    if modifier and not (name == "subject" and modifier.isalpha() and modifier[0].isupper()):
        raise Refusal(400, "a search parameter has a modifier that is not supported", code="not-supported")


def _alternatives(value: str) -> list[str]:
    return re.split(r"(?<!\\),", value)


def _unescaped(value: str) -> str:
    return re.sub(r"\\([\\,|$])", r"\1", value)


def _one_of(found: Criteria, terms: list[str]) -> None:
    found.where.append("v.vid = ANY(ARRAY(SELECT t.vid FROM term t WHERE t.term = ANY(%s::uuid[])))")
    found.values.append(terms)


def _by_token(name: str) -> Any:
    def condition(found: Criteria, _ask: Asking, _modifier: str, value: str) -> None:
        _one_of(found, [term(found.kind, name, *_token_form(part)) for part in _alternatives(value)])

    return condition


def _token_form(text: str) -> tuple[str, ...]:
    system, bar, value = re.match(r"((?:\\.|[^|\\])*)(\|?)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    if not bar:
        return "value", _unescaped(system)
    if not value:
        return "in", _unescaped(system)
    return list(token_forms(_unescaped(system), _unescaped(value)))[1]


def _by_patient(found: Criteria, ask: Asking, _modifier: str, value: str) -> None:
    parts = [local(_unescaped(part), ask.base) for part in _alternatives(value)]
    _one_of(found, [term(found.kind, "patient", p if "/" in p else f"Patient/{p}") for p in parts])


def _by_subject(found: Criteria, ask: Asking, modifier: str, value: str) -> None:
    parts = [local(_unescaped(part), ask.base) for part in _alternatives(value)]
    if modifier:
        parts = [part if "/" in part else f"{modifier}/{part}" for part in parts]
    forms = [("subject", p) if "/" in p or ":" in p else ("subject", "id", p) for p in parts]
    _one_of(found, [term(found.kind, *form) for form in forms])


def _by_id(found: Criteria, _ask: Asking, _modifier: str, value: str) -> None:
    found.where.append("v.id = ANY(%s)")
    found.values.append([_unescaped(part) for part in _alternatives(value)])


_COMPARE = {
    "eq": "v.updated >= %(low)s AND v.updated < %(high)s",
    "ne": "NOT (v.updated >= %(low)s AND v.updated < %(high)s)",
    "gt": "v.updated >= %(high)s",
    "sa": "v.updated >= %(high)s",
    "lt": "v.updated < %(low)s",
    "eb": "v.updated < %(low)s",
    "ge": "v.updated >= %(low)s",
    "le": "v.updated < %(high)s",
}


def _by_last_updated(found: Criteria, _ask: Asking, _modifier: str, value: str) -> None:
    clauses = []
    for part in _alternatives(value):
        prefix, text = (part[:2], part[2:]) if part[:2].isalpha() else ("eq", part)
        wanted = span(text)
        if prefix == "ap":
            prefix, wanted = "eq", _approximately(wanted)
        if prefix not in _COMPARE:
            raise Refusal(400, "a date has a prefix that is none of eq ne gt lt ge le sa eb ap", code="value")
        clause = _COMPARE[prefix]
        names = re.findall(r"%\((low|high)\)s", clause)
        clauses.append("(" + re.sub(r"%\(\w+\)s", "%s", clause) + ")")
        found.values.extend(wanted.low if name == "low" else wanted.high for name in names)
    found.where.append("(" + " OR ".join(clauses) + ")")


def _approximately(wanted: Span) -> Span:
    """Widen by a tenth of the distance to now, as R4 Search 2.1.1.6 recommends."""
    gap: timedelta = abs(datetime.now(UTC) - wanted.low) * 0.1
    return Span(wanted.low - gap, wanted.high + gap)


def _set_count(found: Criteria, value: str) -> bool:
    if not re.fullmatch(r"\d{1,9}", value):
        raise Refusal(400, "_count is not a number of 0 or more", code="value")
    found.count = min(int(value), MOST)
    return True


def _set_sort(found: Criteria, value: str) -> bool:
    found.descending = value == "-_lastUpdated"
    return value in ("_lastUpdated", "-_lastUpdated")


def _set_summary(found: Criteria, value: str) -> bool:
    found.summary_only = value == "count"
    return value in ("count", "false")


def _set_total(found: Criteria, value: str) -> bool:
    found.total = value != "none"
    return value in ("none", "estimate", "accurate")


def _set_include(found: Criteria, value: str) -> bool:
    if value.count(":") not in (1, 2):
        return False
    found.include.append(value)
    return True


def _set_revinclude(found: Criteria, value: str) -> bool:
    if value.count(":") not in (1, 2):
        return False
    found.revinclude.append(value)
    return True


def _set_page(found: Criteria, value: str) -> bool:
    found.page = Page.of(value)
    return True


_CONTROL = {
    "_count": _set_count,
    "_sort": _set_sort,
    "_summary": _set_summary,
    "_total": _set_total,
    "_page": _set_page,
    "_include": _set_include,
    "_revinclude": _set_revinclude,
}
_FILTERS = {
    "_id": _by_id,
    "_lastUpdated": _by_last_updated,
    "identifier": _by_token("identifier"),
    "code": _by_token("code"),
    "patient": _by_patient,
    "subject": _by_subject,
}
