"""What a CSV sample's columns look like: types, date formats, emptiness, whether they could be a key."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from deployments.drafting.words import KNOWN, TRAILERS, plain
from mappings.engine.csv_types import pattern

SAMPLE_ROWS = 5_000
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
DATE_FORMATS = (
    "%Y-%m-%d", "%Y%m%d", "%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%d-%b-%Y", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y%m%d%H%M%S", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M",
    "%m/%d/%Y %I:%M %p", "%d/%m/%Y %H:%M", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S",
)  # fmt: skip
TRUTHS = ({"y", "n"}, {"yes", "no"}, {"true", "false"}, {"t", "f"}, {"0", "1"})
MOST_CODES = 30
_COMMA = re.compile(r"[<>=\s]*[+-]?\d+,\d+")
_POINT = re.compile(r"[<>=\s]*[+-]?\d+\.\d+")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_NAME = re.compile(r"[^\W\d][\w .()/#%-]{0,60}")
_KNOWN = re.compile(
    r"(?:\b|_)(id|ids|name|names|date|time|at|on|code|codes|type|status|value|result|unit|units|number|no|nr|mrn|dob|sex"
    r"|gender|phone|mobile|email|mail|street|address|city|state|zip|country|test|loinc|order|accession|specimen|note"
    r"|notes|comment|text|description|flag|low|high|range|site|provider|npi|ssn|first|last|given|family|birth|born|start"
    r"|end|visit|encounter|department|location|language|race|active|count|amount|dose|drug|diagnosis|icd|cpt)(?:\b|_)",
    re.IGNORECASE,
)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True, slots=True)
class Look:
    """What a sample's column looks like.

    - `formats` are all date formats that every filled cell fits.
    - `cells` are its different cells, where they are few enough to be codes.
    - `comma` says that some of its numbers have a decimal comma, and none a point.
    """

    name: str
    type: str
    formats: tuple[str, ...]
    filled: int
    rows: int
    distinct: int
    cells: tuple[str, ...] = ()
    comma: bool = False

    @property
    def always(self) -> bool:
        """Whether no cell of it is empty."""
        return self.filled == self.rows > 0

    @property
    def unique(self) -> bool:
        """Whether no two cells of it are the same, and none is empty."""
        return self.always and self.distinct == self.rows


@dataclass(frozen=True, slots=True)
class Sample:
    """A CSV sample: how the file is written and its columns; `trailer` is its last row's begin and count's place."""

    delimiter: str
    encoding: str
    header: bool
    columns: tuple[Look, ...]
    rows: int
    odd_rows: int
    trailer: tuple[str, int] | None = None


def encoding_of(data: bytes) -> str:
    """Guess the encoding: the byte-order mark, UTF-8 where the bytes are that, cp1252 otherwise."""
    for mark, name in _BOMS:
        if data.startswith(mark):
            return name
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def look(data: bytes) -> Sample:
    """Return what the first bytes of a CSV file look like; raises `ValueError` where they hold no row."""
    encoding = encoding_of(data)
    text = data.decode(encoding, "ignore").lstrip("\ufeff")
    lines = text.splitlines(keepends=True)
    if len(lines) > 1 and not text.endswith(("\n", "\r")):
        lines.pop()
    delimiter, rows = _delimiter(lines)
    if not rows or not rows[0]:
        raise ValueError("the file has no rows")
    header = _is_header(rows[0], rows[1:])
    body = rows[1:] if header else rows
    width = len(rows[0])
    trailer = _trailer(body)
    if trailer is not None:
        body = body[:-1]
    whole = [row for row in body if len(row) == width]
    names = _names(rows[0]) if header else [f"column_{number}" for number in range(1, width + 1)]
    columns = tuple(_column(name, [row[number] for row in whole]) for number, name in enumerate(names))
    return Sample(DELIMITERS[delimiter], encoding, header, columns, len(whole), len(body) - len(whole), trailer)


def _trailer(body: Sequence[Sequence[str]]) -> tuple[str, int] | None:
    """Return how the last row begins and the place of its count, where it is one that counts the others."""
    if len(body) < 2 or plain(body[-1][0]) not in TRAILERS:
        return None
    count = str(len(body) - 1)
    return body[-1][0], next((n for n, cell in enumerate(body[-1], 1) if cell.strip().lstrip("0") == count), 0)


def _delimiter(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    best: tuple[float, str, list[list[str]]] = (-1, ",", [])
    for delimiter in DELIMITERS:
        rows = _rows(lines, delimiter)
        width = len(rows[0]) if rows else 0
        same = sum(len(row) == width for row in rows) / max(1, len(rows))
        score = same * (width if width > 1 else 0.5)
        if score > best[0]:
            best = (score, delimiter, rows)
    return best[1], best[2]


def _rows(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    try:
        return list(islice((row for row in csv.reader(lines, delimiter=delimiter) if row), SAMPLE_ROWS))
    except csv.Error:
        return []


def _is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Guess whether the first row names columns: words, all different, and below at least one column is no words.

    A row of values must not be taken for names, because names are written into files.
    """
    cells = [cell.strip() for cell in first]
    if len(set(cells)) != len(cells) or not all(_NAME.fullmatch(cell) for cell in cells):
        return False
    columns = [[row[number] for row in rest if len(row) == len(cells)] for number in range(len(cells))]
    typed = any(_column("", column).type != "string" for column in columns if column)
    known = sum(
        plain(cell) in KNOWN or bool(_KNOWN.search(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cell))) for cell in cells
    )
    return known >= 1 if typed else known * 2 >= len(cells)


def _names(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _column(name: str, cells: Sequence[str]) -> Look:
    filled = [cell.strip() for cell in cells if cell.strip()]
    kind, formats = _type(filled)
    different = set(filled)
    few = tuple(sorted(different)) if len(different) <= MOST_CODES else ()
    comma = any(_COMMA.fullmatch(cell) for cell in filled) and not any(_POINT.fullmatch(cell) for cell in filled)
    return Look(name, kind, formats, len(filled), len(cells), len(different), few, comma)


def _type(cells: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    if not cells:
        return "string", ()
    formats = tuple(form for form in DATE_FORMATS if _fits(form, cells))
    if formats:
        return ("datetime" if "H" in formats[0] or "I" in formats[0] else "date"), formats
    words = {cell.casefold() for cell in cells}
    if any(words == truth for truth in TRUTHS):
        return "boolean", ()
    if all(_NUMBER.fullmatch(cell) and not re.match(r"[+-]?0\d", cell) for cell in cells):
        return ("decimal" if any("." in cell for cell in cells) else "integer"), ()
    return "string", ()


def _fits(form: str, cells: Sequence[str]) -> bool:
    compiled = pattern(form)
    limits = {"m": 12, "d": 31, "H": 24, "I": 12, "M": 59}
    for cell in cells:
        found = compiled.fullmatch(cell)
        if not found:
            return False
        parts = found.groupdict()
        if any(int(parts[key]) > most for key, most in limits.items() if parts.get(key)):
            return False
        if parts.get("Y") and not 1850 <= int(parts["Y"]) <= 2150:
            return False
    return True
