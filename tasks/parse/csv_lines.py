"""Bytes to the rows of a CSV file, as bytes: line ends, encodings, quotes; nothing is held but the row at hand."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LONGEST_ROW = 8 << 20
"""A row longer than this is not waited for: a quote that is never closed must not swallow the file."""

LONGEST_LINE = 64 << 20
"""A line longer than this is not held: it is no row of a table, and its beginning is kept for who looks at it."""
KEPT = 100

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_WIDE = ("utf-16-le", "utf-16-be")


class Row(NamedTuple):
    """A row without its line end; `size` is what it takes in the file, `lines` how many lines it runs over.

    - `wrong` is the code of why nothing can be read of it: a quote that is not closed, or a line without an end.
    """

    data: bytes
    size: int
    lines: int
    wrong: str = ""


class Start(NamedTuple):
    """What the first bytes tell: the encoding to read with, the byte-order mark's length, the line end."""

    encoding: str
    skip: int
    newline: bytes


def look(first: bytes, encoding: str) -> Start:
    """Return how a file that begins with `first` is read; a byte-order mark overrules the declared encoding."""
    for mark, name in _BOMS:
        if first.startswith(mark):
            return Start(name, len(mark), _newline(first))
    return Start("utf-16-le" if encoding == "utf-16" else encoding, 0, _newline(first))


def head(chunks: Iterator[bytes]) -> bytes:
    """Take the first bytes: enough for a byte-order mark and to see which line end the file has."""
    first = b""
    for chunk in chunks:
        first += chunk
        if len(first) >= 65536 or b"\n" in first or b"\r" in first[:-2]:
            break
    return first


def _newline(first: bytes) -> bytes:
    """Return CR where it stands alone; CR LF ends with LF."""
    at = first.find(b"\r")
    return b"\r" if at >= 0 and b"\n" not in first[: at + 3] else b"\n"


class Quotes(NamedTuple):
    """Patterns that a line matches whole when no quoted cell is open at its end; a miss means that one is."""

    outside: re.Pattern[bytes]
    """The line begins at a cell."""
    inside: re.Pattern[bytes]
    """The line begins inside of a quoted cell."""


def quotes(delimiter: str, quote: str, escape: str = "") -> Quotes:
    """Return the patterns; they never step back, so that a line costs its length."""
    d, q, e = (re.escape(one.encode()) for one in (delimiter, quote, escape))
    rest = rb"(?:[^%b%b]%b|%b%b)*+%b[^%b]*+" % (q, e, rb"|%b." % e if e else b"", q, q, q, d)
    cell = rb"(?:%b%b|(?!%b)[^%b]*+)" % (q, rest, q, d)
    more = rb"(?:%b%b)*+" % (d, cell)
    return Quotes(re.compile(cell + more, re.DOTALL), re.compile(rest + more, re.DOTALL))


def rows(chunks: Iterable[bytes], start: Start, delimiter: str, quote: str, escape: str = "") -> Iterator[Row]:
    """Yield the rows of `chunks`; the first chunk begins at a row.

    Data of a two-byte encoding is handed over in UTF-8. A row whose quote is never closed is its first line alone.
    """
    wide = start.encoding in _WIDE
    lines = _wide_lines(chunks, start) if wide else _lines(chunks, start.newline)
    if not quote:
        for data, size in lines:
            yield _too_long(data, size) if size > LONGEST_LINE else Row(data.removesuffix(b"\r"), size, 1)
        return
    yield from _Joiner(lines, quote.encode(), quotes(delimiter, quote, escape), start.newline).rows()


def _lines(chunks: Iterable[bytes], newline: bytes) -> Iterator[tuple[bytes, int]]:
    rest: list[bytes] = []
    held = over = 0
    for chunk in chunks:
        if newline not in chunk:
            if held > LONGEST_LINE:
                over += len(chunk)
            else:
                rest.append(chunk)
                held += len(chunk)
            continue
        parts = (b"".join(rest) + chunk).split(newline)
        rest = [parts.pop()]
        held = len(rest[0])
        for part in parts:
            yield part, len(part) + 1 + over
            over = 0
    last = b"".join(rest)
    if last:
        yield last, len(last) + over


def _wide_lines(chunks: Iterable[bytes], start: Start) -> Iterator[tuple[bytes, int]]:
    decoder = codecs.getincrementaldecoder(start.encoding)(errors="surrogatepass")
    newline = start.newline.decode()
    some: list[str] = []
    held = over = 0
    for chunk in chunks:
        text = decoder.decode(chunk)
        if newline not in text:
            if held > LONGEST_LINE:
                over += len(text.encode(start.encoding, "surrogatepass"))
            else:
                some.append(text)
                held += len(chunk)
            continue
        parts = ("".join((*some, text))).split(newline)
        some = [parts.pop()]
        held = len(some[0])
        for part in parts:
            yield _narrow(part), len((part + newline).encode(start.encoding, "surrogatepass")) + over
            over = 0
    rest = "".join(some)
    # Half a character at the end is kept as a byte that no UTF-8 has, so that reading the row says so.
    half = len(decoder.getstate()[0])
    if rest or half:
        yield _narrow(rest) + b"\xff" * half, len(rest.encode(start.encoding, "surrogatepass")) + half + over


def _too_long(data: bytes, size: int) -> Row:
    return Row(data[:KEPT], size, 1, "csv-line-too-long")


def _narrow(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class _Joiner:
    """Joins the lines over which a quoted cell runs; what it looked at in vain is looked at again, line by line."""

    def __init__(self, lines: Iterator[tuple[bytes, int]], quote: bytes, closed: Quotes, newline: bytes) -> None:
        self.lines, self.quote, self.closed, self.newline = lines, quote, closed, newline
        self.ahead: deque[tuple[bytes, int]] = deque()

    def rows(self) -> Iterator[Row]:
        quote, closed, ahead, lines = self.quote, self.closed.outside.fullmatch, self.ahead, self.lines
        while True:
            data, size = ahead.popleft() if ahead else next(lines, (b"", 0))
            if not size:
                return
            if size > LONGEST_LINE:
                yield _too_long(data, size)
            elif quote not in data or closed(data):
                yield Row(data[:-1] if data[-1:] == b"\r" else data, size, 1)
            else:
                yield self._close(data, size)

    def _close(self, data: bytes, size: int) -> Row:
        """Return the row that begins with an open cell: with the lines that close it, or the first line alone."""
        parts, whole, taken = [data], size, 0
        while whole < LONGEST_ROW:
            if taken == len(self.ahead):
                line = next(self.lines, None)
                if line is None:
                    break
                self.ahead.append(line)
            line = self.ahead[taken]
            taken += 1
            parts.append(line[0])
            whole += line[1]
            if self.quote in line[0] and self.closed.inside.fullmatch(line[0]):
                for _ in range(taken):
                    self.ahead.popleft()
                return Row(self.newline.join(parts).removesuffix(b"\r"), whole, len(parts))
        return Row(data.removesuffix(b"\r"), size, 1, "csv-quote-not-closed")
