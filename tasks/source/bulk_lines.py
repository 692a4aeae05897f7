"""NDJSON checked: lines counted, blank and broken ones found by number, nothing kept."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import msgspec

BOM = b"\xef\xbb\xbf"
_KEPT_PLACES = 100
_ODD_START = re.compile(rb"\n[^{]")
_BRACE = ord("{")
_BLOCK = 1 << 18
_LONG = 300


class _Line(msgspec.Struct, gc=False):
    resourceType: str  # noqa: N815 - FHIR's word
    id: str | None = None


_TYPE_OF, _ID_OF = attrgetter("resourceType"), attrgetter("id")


@dataclass(slots=True)
class Checked:
    """What one file holds.

    - `resources` are lines that hold one JSON object with a `resourceType`; `blank` and `broken` are the others.
    - `places` are the numbers of the first broken lines, from 1; `lines` is the number of the last line.
    - `other_type` are resources of another type than was expected; `duplicates` have type and id of an earlier one.
    - `clean` says that the bytes are one object a line already, each line ended.
    """

    size: int = 0
    lines: int = 0
    resources: int = 0
    blank: int = 0
    broken: int = 0
    places: tuple[int, ...] = ()
    other_type: int = 0
    duplicates: int = 0
    clean: bool = True


class _Blocks:
    """Cuts a file whose bytes are fed in into blocks of whole lines."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._waiting = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._held.append(chunk)
        self._waiting += len(chunk)
        # small chunks wait for each other: a block costs as much as many of its lines
        if self._waiting >= _BLOCK and b"\n" in chunk:
            self._cut()

    def _cut(self) -> None:
        data = b"".join(self._held)
        end = data.rfind(b"\n") + 1
        self._held, self._waiting = [data[end:]], len(data) - end
        if end:
            self._block(data[:end])

    def _rest(self) -> bytes:
        """Take the end of the file; return what stands behind the last line's end."""
        self._cut()
        return self._held.pop()

    def _block(self, block: bytes) -> None:
        raise NotImplementedError


class LineCheck(_Blocks):
    """Checks one file whose bytes are fed in; `expected` is a resource type, or empty where any will do."""

    def __init__(self, expected: str = "") -> None:
        super().__init__()
        self._expected = expected
        self._found = Checked()
        self._places: list[int] = []
        self._seen = array("q")
        decoder = msgspec.json.Decoder(_Line)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines

    @property
    def size(self) -> int:
        """How many bytes were fed in."""
        return self._found.size

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._found.size += len(chunk)
        super().feed(chunk)

    def close(self) -> Checked:
        """Take the end of the file and return what was found."""
        if last := self._rest():
            self._found.clean = False
            self._line(last)
        self._found.places = tuple(self._places)
        self._found.duplicates = len(self._seen) - len(set(self._seen))
        return self._found

    def _block(self, block: bytes) -> None:
        if not self._quick(block):
            for line in block[:-1].split(b"\n"):
                self._line(line)

    def _quick(self, block: bytes) -> bool:
        """Count whole lines at once; say no where one of them wants a closer look."""
        if b"\r" in block:
            return False
        try:
            found = self._decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        lines = len(found)
        if not _one_a_line(block, lines):
            return False
        self._found.lines += lines
        self._found.resources += lines
        types, ids = set(map(_TYPE_OF, found)), list(map(_ID_OF, found))
        if len(types) != 1 or None in ids:
            for one in found:
                self._note(one)
            return True
        (kind,) = types
        if self._expected and kind != self._expected:
            self._found.other_type += lines
        self._seen.extend(map(hash(kind).__xor__, map(hash, ids)))
        return True

    def _line(self, line: bytes) -> None:
        self._found.lines += 1
        try:
            found = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._not_clean(line)
            return
        self._resource(found)
        if line.endswith(b"\r") or line[:1] != b"{":
            self._found.clean = False

    def _not_clean(self, line: bytes) -> None:
        self._found.clean = False
        text = line.removeprefix(BOM) if self._found.lines == 1 else line
        if not text.strip():
            self._found.blank += 1
            return
        try:
            self._resource(self._decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._found.broken += 1
            if len(self._places) < _KEPT_PLACES:
                self._places.append(self._found.lines)

    def _resource(self, found: _Line) -> None:
        self._found.resources += 1
        self._note(found)

    def _note(self, found: _Line) -> None:
        if self._expected and found.resourceType != self._expected:
            self._found.other_type += 1
        if found.id is not None:
            self._seen.append(hash(found.resourceType) ^ hash(found.id))


def _one_a_line(block: bytes, objects: int) -> bool:
    """Say whether every line of a block begins with a brace and there are as many as `objects`."""
    if objects * _LONG > len(block):
        return block[:1] == b"{" and not _ODD_START.search(block) and block.count(b"\n") == objects
    # Searching for one line's end after the other skips over what long lines hold.
    find, lines, at, end = block.find, 0, 0, len(block)
    while at < end:
        if block[at] != _BRACE:
            return False
        at = find(b"\n", at) + 1
        lines += 1
    return lines == objects


class LineCount(_Blocks):
    """Counts the lines of one file whose bytes are fed in; blank ones are none."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = 0

    def close(self) -> int:
        """Return how many lines there were."""
        last = self._rest()
        return self._lines + bool(last.strip())

    def _block(self, block: bytes) -> None:
        if block[:1] == b"{" and not _ODD_START.search(block):
            self._lines += block.count(b"\n")
        else:
            self._lines += sum(1 for line in block.split(b"\n") if line.strip())


def check_file(path: Path, expected: str) -> Checked:
    """Return what the file at `path` holds."""
    check = LineCheck(expected)
    feed_file(check, path)
    return check.close()


def feed_file(check: LineCheck, path: Path) -> None:
    """Feed a check what the file at `path` holds by now."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            check.feed(block)
