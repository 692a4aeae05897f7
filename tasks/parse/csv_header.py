"""The header of a CSV file held against the declared columns: what is missing, too many, renamed, in another order."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from mappings.engine.csv_file import Column
from tasks.errors import BadRecord
from tasks.model import Finding


def match(header: Sequence[str], columns: Sequence[Column]) -> tuple[list[int], list[Finding]]:
    """Return where each declared column stands in the file (-1: nowhere) and what differs.

    Raises `BadRecord` where a required column is missing, or where the first row is no header at all. Then no name of
    the file is told, because it may be a patient's value.
    """
    names = [cell.strip() for cell in header]
    places, findings = _places(names, columns)
    found = [place for place in places if place >= 0]
    if len(found) * 2 < len(columns):
        raise BadRecord(Finding("csv-no-header", "line 1", "error"))
    extra = [name for number, name in enumerate(names) if number not in set(found)]
    findings += [Finding("csv-extra-column", name or "(no name)") for name in extra]
    missing = [column for column, place in zip(columns, places, strict=True) if place < 0]
    for column in missing:
        findings.append(Finding("csv-missing-column", column.name, "error" if column.required else "warning"))
        if get_close_matches(_plain(column.name), [_plain(name) for name in extra], n=1, cutoff=0.7):
            findings.append(Finding("csv-renamed-column", column.name, "information"))
    findings += [Finding("csv-repeated-column", name, "error") for name in _twice(names, columns)]
    findings += [Finding("csv-reordered-column", name, "information") for name in _reordered(places, columns)]
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise BadRecord(*findings)
    return places, findings


def _places(names: list[str], columns: Sequence[Column]) -> tuple[list[int], list[Finding]]:
    places, findings = [], []
    plain = [_plain(name) for name in names]
    for column in columns:
        place = next((names.index(name) for name in (column.name, *column.aliases) if name in names), -1)
        if place < 0 and _plain(column.name) in plain:
            place = plain.index(_plain(column.name))
            findings.append(Finding("csv-renamed-column", column.name, "information"))
        places.append(place)
    return places, findings


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _twice(names: list[str], columns: Sequence[Column]) -> list[str]:
    return [column.name for column in columns if names.count(column.name) > 1]


def _reordered(places: Iterable[int], columns: Sequence[Column]) -> list[str]:
    """Return the columns that stand outside of the longest run that keeps the declared order."""
    present = [(place, column.name) for place, column in zip(places, columns, strict=True) if place >= 0]
    tails: list[int] = []
    ranks = []
    for place, _ in present:
        rank = bisect_left(tails, place)
        tails[rank : rank + 1] = [place]
        ranks.append(rank)
    kept: set[int] = set()
    wanted = len(tails) - 1
    for number in range(len(ranks) - 1, -1, -1):
        if ranks[number] == wanted:
            kept.add(number)
            wanted -= 1
    return [name for number, (_, name) in enumerate(present) if number not in kept]
