"""The lab's report as one page of HTML that loads nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from deployments.lab.compare import Difference, by_element
from deployments.lab.corpus import Case
from mappings.engine.json import dumps

SHOWN = 5_000
"""Differences that are listed one by one; all of them are counted."""

STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:80em}table{border-collapse:collapse;margin:.5em 0 1.5em}"
    "td,th{border:1px solid #ccc;padding:3px 8px;text-align:left;vertical-align:top}th{background:#f3f3f3}"
    ".added{background:#eaf6ea}.removed{background:#fdeaea}.changed{background:#fff4dd}"
    "code{font-size:12px;white-space:pre-wrap;word-break:break-all}summary{cursor:pointer}.good{color:#1a7f37}"
    ".bad{color:#b42318}"
)


def page(
    feed: str, cases: Sequence[Case], against: Sequence[tuple[str, Sequence[Difference] | None]], *, values: bool
) -> str:
    """Return the page: what became of the corpus, then each comparison by element and by record.

    `against` are (title, differences; None where there was nothing to compare with). Without `values` no value of a
    record stands in it.
    """
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Feed lab: {escape(feed)}</title>',
        f"<style>{STYLE}</style><h1>Feed lab: {escape(feed)}</h1>",
        *_outcomes(cases),
    ]
    for title, found in against:
        parts += _comparison(title, found, values)
    return "\n".join([*parts, "</html>\n"])


def _outcomes(cases: Sequence[Case]) -> Iterator[str]:
    names = sorted({case["file"] for case in cases})
    outcomes = sorted({case["outcome"] for case in cases})
    yield f"<p>{len(cases)} records in {len(names)} files.</p>"
    counts = Counter((case["file"], case["outcome"]) for case in cases)
    yield from _table(
        ("file", *outcomes),
        [(escape(name), *(str(counts[name, outcome] or "") for outcome in outcomes)) for name in names],
    )
    kinds = Counter(one["resourceType"] for case in cases for one in case["resources"])
    yield "<h2>What was made</h2>"
    yield from _table(("type", "resources"), [(escape(kind), str(count)) for kind, count in kinds.most_common()])
    findings = Counter(word for case in cases for word in case["findings"])
    if findings:
        yield "<h2>Findings</h2>"
        rows = [(*map(escape, word.split(" ", 2)), str(count)) for word, count in findings.most_common()]
        yield from _table(("severity", "code", "location", "count"), rows)


def _comparison(title: str, found: Sequence[Difference] | None, values: bool) -> Iterator[str]:
    yield f"<h2>{escape(title)}</h2>"
    if found is None:
        yield "<p>There is nothing to compare with.</p>"
        return
    if not found:
        yield '<p class="good">No difference.</p>'
        return
    yield f'<p class="bad">{len(found)} differences.</p>'
    rows = [
        tuple(escape(str(row[name])) for name in ("type", "path", "change", "differences", "records"))
        for row in by_element(found)
    ]
    yield from _table(("type", "path", "change", "differences", "records"), rows)
    yield "<details><summary>Record by record</summary>"
    yield from _table(
        ("file", "record", "resource", "path", "change", *(("before", "after") if values else ())),
        [_row(one, values) for one in found[:SHOWN]],
        [one.change for one in found[:SHOWN]],
    )
    if len(found) > SHOWN:
        yield f"<p>and {len(found) - SHOWN} more</p>"
    yield "</details>"


def _row(one: Difference, values: bool) -> tuple[str, ...]:
    shown = tuple(f"<code>{escape(dumps(value).decode())}</code>" if value is not None else "" for value in one.values)
    words = (one.file, one.place, one.resource, one.path, one.change)
    return (*map(escape, words), *(shown if values else ()))


def _table(head: Sequence[str], rows: Iterable[tuple[Any, ...]], classes: Sequence[str] | None = None) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"
    for number, row in enumerate(rows):
        mark = f' class="{classes[number]}"' if classes else ""
        yield f"<tr{mark}>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>"
    yield "</table>"
