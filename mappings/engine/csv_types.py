"""Cells of a CSV row to FHIR's primitive values, by the declared type of their column.

A reader takes the cell's text and returns the value, None for a cell that says nothing, or `BAD`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final, NamedTuple

from mappings.engine import times
from mappings.engine.errors import Mistake, nearest
from mappings.engine.primitives import number
from mappings.engine.tables import Table, Target

Reader = Callable[[str], Any]


class _Bad:
    """What a reader returns for a cell that it cannot read."""


BAD: Final = _Bad()
"""The cell is not of its column's type."""

NO_ZONE: Final = _Bad()
"""The cell is a time without an offset, and the feed names no zone for it."""


class Code(NamedTuple):
    """A cell's code and what its table makes of it.

    - `target` and `code` are None where the table has no such code; then `coding` is the original one.
    """

    original: str
    target: Target | None
    code: str | None
    coding: dict[str, str]


TYPES = ("string", "integer", "decimal", "date", "datetime", "code", "boolean")
WRONG = {
    "integer": "not-an-integer",
    "decimal": "not-a-number",
    "date": "not-a-date",
    "datetime": "not-a-date",
    "boolean": "not-a-boolean",
}
"""The finding of a cell that is not of its column's type."""

_DIRECTIVES = {
    "Y": r"(?P<Y>\d{4})",
    "y": r"(?P<y>\d\d)",
    "m": r"(?P<m>\d{1,2})",
    "d": r"(?P<d>\d{1,2})",
    "b": r"(?P<b>[A-Za-z]{3})",
    "H": r"(?P<H>\d{1,2})",
    "I": r"(?P<I>\d{1,2})",
    "p": r"(?P<p>[AaPp][Mm])",
    "M": r"(?P<M>\d\d)",
    "S": r"(?P<S>\d\d)(?:\.(?P<f>\d+))?",
    "z": r"(?P<z>Z|[+-]\d\d:?\d\d)",
}
_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_ISO = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y-%m", "%Y")
_INTEGER = re.compile(r"[+-]?\d{1,10}")


def pattern(form: str) -> re.Pattern[str]:
    """Return a date format (`%d.%m.%Y %H:%M`) as a pattern; raises `Mistake` for a directive that is not known."""
    out, at = "", 0
    while at < len(form):
        if form[at] != "%":
            out += re.escape(form[at])
            at += 1
            continue
        letter = form[at + 1 : at + 2]
        if letter not in _DIRECTIVES:
            known = [f"%{one}" for one in _DIRECTIVES]
            raise Mistake(f"%{letter} is not a part of a date{nearest('%' + letter, known)}")
        out += _DIRECTIVES[letter]
        at += 2
    try:
        return re.compile(out, re.ASCII)
    except re.error:
        raise Mistake(f"{form!r} has the same part twice") from None


def decimal(point: str = ".") -> Reader:
    """Return the reader of numbers; digits stay as written, `point` separates the fraction."""

    def read(cell: str) -> Decimal | _Bad | None:
        text = cell.strip()
        if point != ".":
            text = "" if "." in text else text.replace(point, ".")
        if not cell.strip():
            return None
        found = number(text)
        return BAD if found is None else found

    return read


def grouped(read: Reader, thousands: str, point: str = ".") -> Reader:
    """Return a reader of numbers that takes the sign between groups of three digits off first."""
    if not thousands:
        return read
    t, p = re.escape(thousands), re.escape(point)
    shape = re.compile(rf"\s*[+-]?(?:\d+|\d{{1,3}}(?:{t}\d{{3}})+)(?:{p}\d*)?\s*", re.ASCII)

    def ungrouped(cell: str) -> Any:
        if thousands not in cell or cell.isspace():
            return read(cell)
        return read(cell.replace(thousands, "")) if shape.fullmatch(cell) else BAD

    return ungrouped


def integer(cell: str) -> int | _Bad | None:
    """Read a whole number of FHIR's 32 bits."""
    text = cell.strip()
    if not text:
        return None
    if not _INTEGER.fullmatch(text) or not -(2**31) <= int(text) < 2**31:
        return BAD
    return int(text)


def boolean(true: tuple[str, ...], false: tuple[str, ...]) -> Reader:
    """Return the reader of truth values; words are compared without regard to case."""
    words = {word.casefold(): True for word in true} | {word.casefold(): False for word in false}

    def read(cell: str) -> bool | _Bad | None:
        text = cell.strip().casefold()
        return words.get(text, BAD) if text else None

    return read


def code(table: Table | None) -> Reader:
    """Return the reader of codes; without a table a code stands for itself."""

    def read(cell: str) -> Code | None:
        text = cell.strip()
        if not text:
            return None
        target = table.get(text) if table else Target(text, "", "")
        if target is None:
            return Code(text, None, None, {"code": text})
        coding = {"system": target.system, "code": target.code, "display": target.display}
        return Code(text, target, target.code, {key: value for key, value in coding.items() if value})

    return read


def moment(formats: tuple[str, ...], zone: str | None, *, time: bool, pivot: int | None = None) -> Reader:
    """Return the reader of dates, and with `time` of times; the first format that fits decides.

    Of two-digit years (`%y`) those up to `pivot` are of this century, the others of the last. A value keeps the
    precision of its format; one with a time part gets its own offset or that of `zone`.
    """
    patterns = [pattern(form) for form in (formats or _ISO)]
    if not time and any("H" in one.groupindex or "I" in one.groupindex for one in patterns if formats):
        raise Mistake("the format has a time: the column's type is datetime")

    if pivot is None and any("y" in one.groupindex for one in patterns):
        raise Mistake("%y is two digits of a year: say with `pivot: 30` up to which of them the year is 20..")

    def read(cell: str) -> str | _Bad | None:
        text = cell.strip()
        if not text:
            return None
        for one in patterns:
            found = one.fullmatch(text)
            if found:
                parts = found.groupdict()
                if pivot is not None and parts.get("y"):
                    parts["Y"] = f"{20 if int(parts['y']) <= pivot else 19}{parts['y']}"
                made = _moment(parts, zone)
                return made if time or isinstance(made, _Bad) else made[:10]
        return BAD

    return read


def _moment(parts: dict[str, str | None], zone: str | None) -> str | _Bad:
    month = _MONTHS.get((parts.get("b") or "").lower()) if parts.get("b") else int(parts.get("m") or 0)
    year = int(parts.get("Y") or 0)
    day = int(parts.get("d") or 0)
    try:
        date(year, month if month is not None else 99, day or 1) if month != 0 else date(year, 1, 1)
    except ValueError:
        return BAD
    if "m" not in parts and "b" not in parts:
        return f"{year:04d}"
    if "d" not in parts:
        return f"{year:04d}-{month:02d}" if month else BAD
    if not month or not day:
        return BAD
    hour = _hour(parts)
    if hour is None:
        return f"{year:04d}-{month:02d}-{day:02d}"
    return _time(f"{year:04d}{month:02d}{day:02d}", hour, parts, zone)


def _time(day: str, hour: int, parts: dict[str, str | None], zone: str | None) -> str | _Bad:
    minute, second, fraction = parts.get("M") or "00", parts.get("S") or "00", parts.get("f")
    if hour > 23 or int(minute) > 59 or int(second) > 59:
        return BAD
    offset = (parts.get("z") or "").replace("Z", "+00:00").replace(":", "")
    if not offset and zone is None:
        return NO_ZONE
    text = f"{day}{hour:02d}{minute}{second}{f'.{fraction}' if fraction else ''}{offset}"
    made = times.date_time(text, zone)
    return made if made is not None and "T" in made else BAD


def _hour(parts: dict[str, str | None]) -> int | None:
    if parts.get("H"):
        return int(parts["H"] or 0)
    if not parts.get("I"):
        return None
    hour = int(parts["I"] or 0)
    if not 1 <= hour <= 12:
        return 99
    return hour % 12 + (12 if (parts.get("p") or "").lower() == "pm" else 0)
