"""Where messages, batches and blocks begin and end in a stream of bytes, found in one pass and constant memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from dataclasses import dataclass

from tasks.parse.v2_charsets import wide_encoding

_MARKERS = (b"MSH", b"FHS", b"BHS", b"BTS", b"FTS", b"\x1c")
_NOWHERE = 1 << 62
_BOM = codecs.BOM_UTF8
_USUAL = b"MSH|^~\\&"


@dataclass(slots=True)
class Mark:
    """A place where something begins or ends.

    - `kind` is a header segment's name, or `end` for the end of an MLLP block.
    - `start` is where it begins with what goes before it (block start, byte-order mark, blanks), `at` its first letter.
    - `block` says that an MLLP block starts here.
    """

    kind: str
    start: int
    at: int
    block: bool = False


class Marks:
    """A delivery's bytes as a window that moves forward; positions count from where reading started.

    Bytes in UTF-16 or UTF-32 are seen as UTF-8; `source` says where a position is in the delivery.
    """

    def __init__(self, chunks: Iterable[bytes], offset: int, encoding: str = "") -> None:
        self._chunks = iter(chunks)
        self._window = bytearray()
        self._base = 0
        self._found = [-1] * len(_MARKERS)
        self._tried = [0] * len(_MARKERS)
        self._source = offset
        self.encoding = encoding
        self.ended = False
        self._decoder = self._start(offset)

    @property
    def end(self) -> int:
        """The position after the last byte that was read."""
        return self._base + len(self._window)

    def _start(self, offset: int) -> codecs.IncrementalDecoder | None:
        """Read the first bytes, which give a wide encoding away; a byte-order mark of one is left out."""
        first = b""
        while len(first) < 4 and not self.ended:
            first += self._next()
        if offset == 0 and not self.encoding:
            wide = wide_encoding(first) or ""
            if wide in ("utf-16", "utf-32"):
                little = first[0] == 0xFF
                mark = 2 if wide == "utf-16" else 4
                self.encoding, self._source, first = f"{wide}-{'le' if little else 'be'}", mark, first[mark:]
            else:
                self.encoding = wide
        decoder = codecs.getincrementaldecoder(self.encoding)("replace") if self.encoding else None
        self._window += decoder.decode(first).encode("utf-8", "replace") if decoder else first
        return decoder

    def _next(self) -> bytes:
        chunk = next(self._chunks, None)
        if chunk is None:
            self.ended = True
        return chunk or b""

    def read(self) -> bool:
        """Read another chunk; False where there is none."""
        if self.ended:
            return False
        chunk = self._next()
        if self._decoder:
            chunk = self._decoder.decode(chunk, final=self.ended).encode("utf-8", "replace")
        self._window += chunk
        # A marker that was not in the window may be in what has come, or across the seam.
        self._found = [-1 if at == _NOWHERE else at for at in self._found]
        return True

    def slice(self, start: int, stop: int) -> bytes:
        """Return the bytes of [start, stop)."""
        return bytes(self._window[start - self._base : stop - self._base])

    def release(self, position: int) -> None:
        """Forget what is before `position`."""
        gone = position - self._base
        if gone > 0:
            self._source = self.source(position)
            del self._window[:gone]
            self._base = position

    def source(self, position: int) -> int:
        """Return the offset in the delivery of `position`, which is not before what was released."""
        ahead = position - self._base
        if self._decoder is None:
            return self._source + ahead
        return self._source + len(self._window[:ahead].decode("utf-8", "replace").encode(self.encoding))

    def line_end(self, position: int) -> int:
        """Return the position after the line that begins at `position`, line end included where it is there."""
        while True:
            for at in range(position - self._base, len(self._window)):
                if self._window[at] in b"\r\n\x1c":
                    return self._base + at + (self._window[at] != 0x1C)
            if self.end - position > 65536 or not self.read():
                return self.end

    def find(self, start: int, *, inside: bool) -> Mark | None:
        """Return the first mark from `start` in what has been read, None where there is none (yet).

        `inside` says that a message is open from before `start`; else anything from `start` on is between messages.
        """
        floor, position = start, start + 3 if inside else start
        while True:
            at, kind = self._candidate(position)
            if at == _NOWHERE or (kind != "end" and at + len(_USUAL) > self.end and not self.ended):
                return None
            mark = self._end(at, inside=inside) if kind == "end" else self._header(kind, at, floor, inside=inside)
            if mark:
                return mark
            position = at + 1

    def _candidate(self, position: int) -> tuple[int, str]:
        best, kind = _NOWHERE, ""
        for index, marker in enumerate(_MARKERS):
            at = self._found[index]
            if at < position:
                at = self._search(index, marker, position)
            if at < best:
                best, kind = at, "end" if marker == b"\x1c" else marker.decode()
        return best, kind

    def _search(self, index: int, marker: bytes, position: int) -> int:
        place = self._window.find(marker, max(position, self._tried[index]) - self._base)
        if place < 0:
            self._found[index] = _NOWHERE
            self._tried[index] = max(self.end - len(marker) + 1, 0)
            return _NOWHERE
        self._found[index] = self._tried[index] = self._base + place
        return self._found[index]

    def _end(self, at: int, *, inside: bool) -> Mark | None:
        return Mark("end", at, at) if inside else None

    def _header(self, kind: str, at: int, floor: int, *, inside: bool) -> Mark | None:
        window, low = self._window, floor - self._base
        letters = at - self._base
        separator = window[letters + 3 : letters + 4]
        if not separator or not 0x20 < separator[0] < 0x7F or separator.isalnum():
            return None
        start = letters
        while start > low and window[start - 1] in b" \t":
            start -= 1
        if window[max(start - 3, low) : start] == _BOM:
            start -= 3
        if start > low and window[start - 1] not in b"\r\n\x0b\x1c":
            return self._within_line(kind, at, low, inside=inside)
        first = start
        while first > low and window[first - 1] == 0x0B:
            first -= 1
        return Mark(kind, self._base + first, at, block=first < start)

    def _within_line(self, kind: str, at: int, low: int, *, inside: bool) -> Mark | None:
        """Believe a message in the middle of a line (after a log's prefix) where it has the usual separators.

        After the start of another message the prefix must not hold a field separator: else it is a field's text.
        """
        letters = at - self._base
        if not self._window.startswith(_USUAL, letters):
            return None
        if not inside:
            return Mark(kind, at, at)
        line = max(self._window.rfind(end, max(low, letters - 256), letters) for end in (b"\r", b"\n"))
        if line < 0 or b"|" in self._window[line:letters]:
            return None
        return Mark(kind, self._base + line, at)


def blank(data: bytes) -> bool:
    """Say whether `data` holds nothing but what may stand between messages."""
    return not data.translate(None, b" \t\r\n\x0b\x0c\x1a\x1c\0").replace(_BOM, b"")
