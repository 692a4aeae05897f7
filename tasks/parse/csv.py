"""The CSV format: rows, or the rows of one key, as frames (RFC 4180, and what is sent in its name)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from mappings.engine.csv_file import Layout, load
from mappings.engine.errors import MappingError
from mappings.engine.model import Profile
from mappings.engine.yamlfile import nearest
from tasks.errors import BadRecord, ConfigError
from tasks.model import BEGIN, Finding, Frame, Parsed, Position
from tasks.parse.csv_header import match
from tasks.parse.csv_lines import Row, Start, head, look, rows

MOST_ROWS = 10_000
"""A record of more rows than this is cut: its key is none."""

_KEY_AGAIN = Finding("csv-key-again", "row", "error")
_WIDE = "utf-16"


class CsvFormat:
    """Cuts a file into rows and reads them by the mapping that the feed names."""

    def __init__(self, profile: Profile) -> None:
        """Take the mapping's `file:` and `columns:`; raises `ConfigError`, a line for every mistake."""
        try:
            mapping = load(profile.mapping, profile.partner)
        except MappingError as error:
            raise ConfigError(error.problems[0], error.problems) from None
        self.layout: Layout = mapping.layout
        self._whole = _makes_wholes(mapping.resources)
        self._delimiter, self._quote = self.layout.delimiter, self.layout.quote
        self._escape = self.layout.escape if self._quote else ""
        self._cells = _cells(self._delimiter, self._quote, self._escape) if self._quote else None
        self._escaped = re.compile(rf"{re.escape(self._escape)}(.)", re.DOTALL) if self._escape else None
        self._group = [self.layout.index(name) for name in self.layout.group]
        self._trailer = self.layout.trailer
        self._starts = tuple(
            (quote + self._trailer.starts).encode() for quote in ("", self._quote) if self._trailer is not None
        )
        self._shapes: dict[tuple[int, ...], Any] = {}

    def split(self, chunks: Iterable[bytes], start: Position = BEGIN) -> Iterator[Frame]:
        """Yield a frame a row, or a frame for the consecutive rows that have the declared key in common.

        Raises `BadRecord` where the file is empty, has no header or lacks a required column.
        """
        chunks = iter(chunks)
        if start.offset:
            context: Mapping[str, Any] = start.context
            how = Start(context["encoding"], 0, context["newline"].encode())
            yield from self._frames(rows(chunks, how, self._delimiter, self._quote, self._escape), start, ())
            return
        first = head(chunks)
        if not first:
            raise BadRecord(Finding("csv-empty", "delivery", "error"))
        how = look(first, self.layout.encoding)
        found = rows(chain((first[how.skip :],), chunks), how, self._delimiter, self._quote, self._escape)
        position, findings = self._begin(found, how)
        yield from self._frames(found, position, tuple(findings))

    def _begin(self, found: Iterator[Row], how: Start) -> tuple[Position, list[Finding]]:
        """Read the header; return the position after it and what differs from the declared columns."""
        columns = self.layout.columns
        places = list(range(len(columns)))
        findings: list[Finding] = []
        offset, line, width = how.skip, 1, len(columns)
        encoding = "utf-8" if how.encoding.startswith(_WIDE) else how.encoding
        if self.layout.header:
            row = next((one for one in found if one.data.strip()), Row(b"", 0, 0))
            header = self._split(self._text(row.data, encoding))
            places, findings = match(header, columns)
            offset, line, width = offset + row.size, line + row.lines, len(header)
        context = {"encoding": how.encoding, "newline": how.newline.decode(), "places": places, "width": width}
        return Position(offset, 1, {**context, "line": line, "rows": 0}), findings

    def _frames(self, found: Iterator[Row], start: Position, findings: tuple[Finding, ...]) -> Iterator[Frame]:
        """Yield the frames of rows that begin at `start`; `findings` are of the header and go with the first."""
        if start.context.get("ended"):
            return
        context = {key: start.context[key] for key in ("encoding", "newline", "places", "width")}
        state = _State(start, context)
        for frame in self._grouped(found, state) if self._group else self._single(found, state):
            if findings:
                frame = _with(frame, findings)  # noqa: PLW2901 - the header's findings go with the first frame
                findings = ()
            yield frame
        if self._trailer and not state.trailer:
            missing = Finding("csv-trailer-missing", "file", "error")
            yield state.frame(b"", 0, 0, (*findings, missing), ended=True)

    def _single(self, found: Iterator[Row], state: _State) -> Iterator[Frame]:
        starts = self._starts
        for row in found:
            data = row.data
            if not data or data.isspace():
                state.skip(row)
            elif starts and data.startswith(starts):
                yield from self._end(row, state)
            elif state.trailer:
                yield state.frame(data, row.size, row.lines, (Finding("csv-after-trailer", "row", "error"),))
            else:
                yield state.frame(data, row.size, row.lines, (Finding(row.wrong, "row", "error"),) if row.wrong else ())

    def _end(self, row: Row, state: _State) -> Iterator[Frame]:
        """Hold the trailer's count against the rows; only a difference is a frame."""
        state.trailer = True
        wrong = self._trailer_wrong(row, state)
        if wrong:
            yield state.frame(row.data, row.size, row.lines, wrong)
        else:
            state.skip(row)

    def _trailer_wrong(self, row: Row, state: _State) -> tuple[Finding, ...]:
        if self._trailer is None or self._trailer.count is None:
            return ()
        cells = self._split(self._text(row.data, state.read_as))
        count = cells[self._trailer.count - 1].strip() if len(cells) >= self._trailer.count else ""
        same = count.isdecimal() and int(count) == state.rows
        return () if same else (Finding("csv-trailer-count", "trailer", "error"),)

    def _grouped(self, found: Iterator[Row], state: _State) -> Iterator[Frame]:
        """Yield the rows of one key together; a row that cannot be read stands alone."""
        held: list[Row] = []
        held_key: tuple[str, ...] | None = None
        seen: set[int] = set()
        for row in found:
            plain = bool(row.data and not row.data.isspace())
            trailer = bool(self._starts and row.data.startswith(self._starts))
            key = self._key(row, state) if plain and not trailer and not state.trailer else None
            if held and (key != held_key or key is None or len(held) >= MOST_ROWS) and plain:
                yield self._once(state.frames(held), held_key, seen)
                held = []
            if not plain and not held:
                state.skip(row)
            elif key is not None or not plain:
                held.append(row)
                held_key = key if plain else held_key
            else:
                yield from self._single(iter((row,)), state)
        if held:
            yield self._once(state.frames(held), held_key, seen)

    def _once(self, frame: Frame, key: tuple[str, ...] | None, seen: set[int]) -> Frame:
        """Refuse rows whose key had its rows before: what is made of them as a whole would replace what those made."""
        if not self._whole:
            return frame
        mark = hash(key)
        if mark in seen:
            return _with(frame, (_KEY_AGAIN,))
        seen.add(mark)
        return frame

    def _key(self, row: Row, state: _State) -> tuple[str, ...] | None:
        try:
            cells = self._split(self._text(row.data, state.read_as)) if not row.wrong else []
        except BadRecord:
            return None
        if len(cells) != state.context["width"]:
            return None
        places = state.context["places"]
        return tuple(cells[places[number]].strip() if places[number] >= 0 else "" for number in self._group)

    def parse(self, frame: Frame) -> Parsed:
        """Return the rows' cells in the order of the declared columns; a column that is missing reads as empty.

        Raises `BadRecord` for a row with another number of cells, a stray quote, a NUL or bytes of another encoding.
        """
        context = frame.context
        places, width, read_as = context["places"], context["width"], context["read_as"]
        shape = self._shape(places) if places is not None else None
        sizes = context.get("sizes")
        if sizes is None:
            return Parsed(frame, [self._row(frame.data, read_as, width, shape)])
        return Parsed(frame, [self._row(data, read_as, width, shape) for data in _parts(frame.data, sizes)])

    def column(self, name: str) -> Callable[[Sequence[Sequence[str]]], set[str]]:
        """Return what reads a column's values in a record's rows; raises `ConfigError` where it is not declared."""
        names = [column.name for column in self.layout.columns]
        if name not in names:
            raise ConfigError(f"`{name}` is not a column of the mapping{nearest(name, names)}")
        place, nothing = names.index(name), self.layout.nulls | {""}
        return lambda rows: {cell for row in rows if (cell := row[place].strip()) not in nothing}

    def named(self, content: Sequence[Sequence[str]]) -> list[dict[str, str]]:
        """Return a record's rows with their cells by column."""
        names = [column.name for column in self.layout.columns]
        return [dict(zip(names, row, strict=True)) for row in content]

    def _row(self, data: bytes, read_as: str, width: int, shape: Any) -> Sequence[str]:
        cells = self._split(self._text(data, read_as))
        if len(cells) != width:
            raise BadRecord(Finding("csv-cell-count", "row", "error"))
        row: Sequence[str] = shape(cells) if shape else cells
        return row

    def _shape(self, places: Sequence[int]) -> Any:
        """Return what puts cells into the declared order."""
        key = tuple(places)
        if key not in self._shapes:
            self._shapes[key] = _reshape(key)
        return self._shapes[key]

    @staticmethod
    def _text(data: bytes, encoding: str) -> str:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            raise BadRecord(Finding(f"csv-not-{encoding}", "row", "error")) from None
        if "\0" in text:
            raise BadRecord(Finding("csv-nul-byte", "row", "error"))
        return text

    def _plain(self, quoted: str) -> str:
        """Return a quoted cell's text: two quotes are one, what is escaped is itself."""
        text = quoted.replace(self._quote * 2, self._quote)
        return self._escaped.sub(r"\1", text) if self._escaped and self._escape in text else text

    def _split(self, text: str) -> list[str]:
        """Return the cells of a row."""
        if self._cells is None or self._quote not in text:
            return text.split(self._delimiter)
        cells, at = [], 0
        while True:
            found = self._cells.match(text, at)
            if found is None:
                raise BadRecord(Finding("csv-stray-quote", "row", "error"))
            quoted = found[1]
            cells.append(found[2] if quoted is None else self._plain(quoted))
            if found.end() == len(text):
                if found[3]:
                    cells.append("")
                return cells
            at = found.end()


class _State:
    """Where a split stands: offset, line, rows and the next frame's number."""

    def __init__(self, start: Position, context: dict[str, Any]) -> None:
        self.context = context
        self.offset, self.ordinal = start.offset, start.ordinal
        self.line, self.rows = int(start.context["line"]), int(start.context["rows"])
        self.trailer = bool(start.context.get("trailer"))
        encoding = context["encoding"]
        self.read_as = "utf-8" if encoding.startswith(_WIDE) else encoding
        places: list[int] | None = context["places"]
        in_order = places == list(range(context["width"]))
        self.shared = {
            "read_as": self.read_as, "places": None if in_order else places, "width": context["width"]
        }  # fmt: skip

    def skip(self, row: Row) -> None:
        self.offset += row.size
        self.line += row.lines

    def frame(
        self, data: bytes, size: int, lines: int, findings: tuple[Finding, ...] = (), *, ended: bool = False
    ) -> Frame:
        """Return the frame of the next row."""
        line, ordinal = self.line, self.ordinal
        self.offset += size
        self.line += lines
        self.ordinal = ordinal + 1
        self.rows += 1
        after = {**self.context, "line": self.line, "rows": self.rows}
        if self.trailer:
            after["trailer"] = True
        if ended:
            after["ended"] = True
        return Frame(
            ordinal, f"line {line}", data, Position(self.offset, self.ordinal, after), None, self.shared, findings
        )

    def frames(self, held: list[Row]) -> Frame:
        """Return one frame of several rows; `sizes` in its context tell them apart again."""
        first, before = self.line, self.rows
        kept = [row.data for row in held if row.data and not row.data.isspace()]
        made = self.frame(b"".join(kept), sum(row.size for row in held), sum(row.lines for row in held))
        self.rows = before + len(kept)
        after = {**made.next.context, "rows": self.rows}
        location = f"line {first}" if self.line == first + 1 else f"lines {first} to {self.line - 1}"
        context = {**self.shared, "sizes": [len(data) for data in kept]}
        return Frame(made.ordinal, location, made.data, Position(self.offset, self.ordinal, after), None, context)


def _makes_wholes(resources: Mapping[str, Any]) -> bool:
    """Say whether a map makes of a record's rows together what the next record of that key replaces as a whole."""
    bodies = [body for body in resources.values() if isinstance(body, dict)]
    return any(body.get("per") == "record" and not body.get("living") for body in bodies)


def _parts(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Yield the rows of a frame."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size


def _with(frame: Frame, findings: tuple[Finding, ...]) -> Frame:
    return Frame(
        frame.ordinal, frame.location, frame.data, frame.next, None, frame.context, (*findings, *frame.findings)
    )


def _cells(delimiter: str, quote: str, escape: str) -> re.Pattern[str]:
    """Return the pattern of one cell and the delimiter after it: quoted content, or plain content."""
    d, q, e = re.escape(delimiter), re.escape(quote), re.escape(escape)
    escaped = rf"|{e}." if e else ""
    return re.compile(rf"(?:{q}((?:[^{q}{e}]{escaped}|{q}{q})*+){q}|((?!{q})[^{d}]*+))(?:({d})|\Z)", re.DOTALL)


def _reshape(places: tuple[int, ...]) -> Any:
    if len(places) > 1 and min(places) >= 0:
        return itemgetter(*places)
    return lambda cells: [cells[place] if place >= 0 else "" for place in places]
