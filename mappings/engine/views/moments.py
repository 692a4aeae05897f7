"""Dates and times in SQL: what `temporal.py` does in Python, as expressions over a text."""

from __future__ import annotations

from mappings.engine.views.quoting import literal
from mappings.engine.views.temporal import HIGHEST, LOWEST, SHAPE, TIME_SHAPE

_PRECISE = (
    r"^[12]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
    r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?(Z|[+-](0\d|1[0-4]):[0-5]\d)$"
)
_OFFSET = r"(Z|[+-]\d\d:\d\d)$"


def _last_day(month: str) -> str:
    return f"extract(day FROM ({month} || '-01')::date + interval '1 month - 1 day')::int"


def is_temporal(text: str) -> str:
    """Return the condition that a text is a date, dateTime or instant of the calendar."""
    last = _last_day(f"substr({text}, 1, 7)")
    day = f"CASE WHEN length({text}) < 10 THEN true ELSE substr({text}, 9, 2)::int <= {last} END"
    return f"(CASE WHEN {text} ~ {literal(SHAPE)} AND {text} !~ '^0000' THEN {day} ELSE false END)"


def _padded(text: str) -> str:
    body = f"(CASE WHEN {text} LIKE '%T%' THEN regexp_replace({text}, {literal(_OFFSET)}, '') ELSE {text} END)"
    zone = f"(CASE WHEN {text} LIKE '%T%' THEN coalesce(substring({text} from {literal(_OFFSET)}), 'Z') ELSE 'Z' END)"
    return f"({body} || substr({literal(LOWEST)}, length({body}) + 1) || {zone})"


def timestamp(text: str) -> str:
    """Return the timestamptz of a text, its first moment where it is not precise; NULL where it is no date or time."""
    whole = f"CASE WHEN {is_temporal('q.t')} THEN ({_padded('q.t')})::timestamptz END"
    cases = f"CASE WHEN q.t ~ {literal(_PRECISE)} THEN (q.t)::timestamptz ELSE {whole} END"
    return f"(SELECT {cases} FROM (SELECT {text} AS t OFFSET 0) AS q)"


def date(text: str) -> str:
    """Return the date of a text, its first day where it is not precise; NULL where it is none."""
    value = "(substr(q.t, 1, 10) || substr('0000-01-01', length(substr(q.t, 1, 10)) + 1))::date"
    return f"(SELECT CASE WHEN {is_temporal('q.t')} THEN {value} END FROM (SELECT {text} AS t OFFSET 0) AS q)"


def time(text: str) -> str:
    """Return the time of day of a text; NULL where it is none."""
    value = "(q.t || substr('00:00:00', length(q.t) + 1))::time"
    return f"(SELECT CASE WHEN q.t ~ {literal(TIME_SHAPE)} THEN {value} END FROM (SELECT {text} AS t OFFSET 0) AS q)"


def _span(text: str, alias: str) -> str:
    """Return a relation of a text's first moment `s` in UTC, and how far it reaches `n`."""
    daytime = f"'1970-01-01T' || rpad({text}, greatest(length({text}), 5), ':00')"
    given = f"(SELECT CASE WHEN {text} ~ {literal(TIME_SHAPE)} THEN {daytime} ELSE {text} END AS t OFFSET 0) AS g"
    body = f"CASE WHEN g.t LIKE '%T%' THEN regexp_replace(g.t, {literal(_OFFSET)}, '') ELSE g.t END"
    reach = (
        f"CASE length(split_part({body}, '.', 1)) WHEN 4 THEN interval '1 year' WHEN 7 THEN interval '1 month' "
        "WHEN 10 THEN interval '1 day' WHEN 16 THEN interval '1 minute' ELSE interval '0' END"
    )
    start = f"CASE WHEN {is_temporal('g.t')} THEN ({_padded('g.t')})::timestamptz AT TIME ZONE 'UTC' END"
    return f"(SELECT {start} AS s, {reach} AS n FROM {given} OFFSET 0) AS {alias}"


def compare(left: str, right: str) -> str:
    """Return -1, 0 or 1 as one text is before, at or after the other; NULL where that cannot be decided."""
    cases = f"WHEN a.s = b.s AND a.n = b.n THEN 0 WHEN {_before('a', 'b')} THEN -1 WHEN {_before('b', 'a')} THEN 1"
    texts = f"(SELECT {left} AS l, {right} AS r OFFSET 0) AS q"
    spans = f"CROSS JOIN LATERAL {_span('q.l', 'a')} CROSS JOIN LATERAL {_span('q.r', 'b')}"
    return f"(SELECT CASE {cases} END FROM {texts} {spans})"


def _before(one: str, other: str) -> str:
    return f"(CASE WHEN {one}.n > interval '0' THEN {one}.s + {one}.n <= {other}.s ELSE {one}.s < {other}.s END)"


def boundary(text: str, type_name: str | None, low: bool) -> str:
    """Return the text of the earliest or latest moment that a text may mean; NULL where it is no date or time."""
    template, zone = (LOWEST, "+14:00") if low else (HIGHEST, "-12:00")
    body = f"(CASE WHEN q.t LIKE '%T%' THEN regexp_replace(q.t, {literal(_OFFSET)}, '') ELSE q.t END)"
    if not low:
        whole = f"{body} || '-' || lpad({_last_day(body)}::text, 2, '0')"
        body = f"(CASE WHEN length({body}) = 7 THEN {whole} ELSE {body} END)"
    padded = f"{body} || substr({literal(template)}, length({body}) + 1)"
    offset = (
        f"CASE WHEN q.t LIKE '%T%' THEN coalesce(substring(q.t from {literal(_OFFSET)}), '{zone}') ELSE '{zone}' END"
    )
    moment = f"substr({padded}, 1, 10)" if type_name == "date" else f"{padded} || {offset}"
    cases = f"WHEN {is_temporal('q.t')} THEN {moment}"
    if type_name not in {"date", "dateTime", "instant"}:
        day = literal(template[11:])
        cases = f"WHEN q.t ~ {literal(TIME_SHAPE)} THEN q.t || substr({day}, length(q.t) + 1) {cases}"
    return f"(SELECT CASE {cases} END FROM (SELECT {text} AS t OFFSET 0) AS q)"
