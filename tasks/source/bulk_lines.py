"""NDJSON checked: lines counted, blank and broken ones found by number, nothing kept.

Run as a module it is a helper process: it reads a line `path<TAB>expected type` and answers with the check as JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

BOM = b"\xef\xbb\xbf"
_KEPT_PLACES = 100
_ODD_START = re.compile(rb"\n[^{]")
_BLOCK = 1 << 18
_LARGE = 8 << 20
"""From this size on a file is checked by a helper process, so that checking does not hold up the downloads."""


class _Line(msgspec.Struct):
    resourceType: str  # noqa: N815 - FHIR's word
    id: str | None = None


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


class LineCheck:
    """Checks one file whose bytes are fed in; `expected` is a resource type, or empty where any will do."""

    def __init__(self, expected: str = "") -> None:
        self._expected = expected
        self._found = Checked()
        self._places: list[int] = []
        self._tail: list[bytes] = []
        self._seen = array("q")
        decoder = msgspec.json.Decoder(_Line)
        self._decode, self._decode_lines = decoder.decode, decoder.decode_lines

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._found.size += len(chunk)
        end = chunk.rfind(b"\n") + 1
        if not end:
            self._tail.append(chunk)
            return
        block = b"".join((*self._tail, chunk[:end]))
        self._tail = [chunk[end:]] if end < len(chunk) else []
        if not self._quick(block):
            for line in block[:-1].split(b"\n"):
                self._line(line)

    def close(self) -> Checked:
        """Take the end of the file and return what was found."""
        last = b"".join(self._tail)
        self._tail = []
        if last:
            self._found.clean = False
            self._line(last)
        self._found.places = tuple(self._places)
        self._found.duplicates = len(self._seen) - len(set(self._seen))
        return self._found

    def _quick(self, block: bytes) -> bool:
        """Count whole lines at once; say no where one of them wants a closer look."""
        lines = block.count(b"\n")
        if block[:1] != b"{" or _ODD_START.search(block) or b"\r" in block:
            return False
        try:
            found = self._decode_lines(block)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if len(found) != lines:
            return False
        self._found.lines += lines
        self._found.resources += lines
        if self._expected:
            self._found.other_type += sum(one.resourceType != self._expected for one in found)
        self._seen.extend([hash((one.resourceType, one.id)) for one in found if one.id is not None])
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
        if self._expected and found.resourceType != self._expected:
            self._found.other_type += 1
        if found.id is not None:
            self._seen.append(hash((found.resourceType, found.id)))


def check_file(path: Path, expected: str) -> Checked:
    """Return what the file at `path` holds."""
    check = LineCheck(expected)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            check.feed(block)
    return check.close()


class Checker:
    """Checks files for many threads: small ones at once, large ones in a helper process that ends with this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[str] | None = None

    def is_large(self, path: Path) -> bool:
        """Say whether a file is better checked by the helper, while other files come in."""
        return path.stat().st_size >= _LARGE and (os.cpu_count() or 1) > 1

    def check(self, path: Path, expected: str) -> Checked:
        """Return what the file at `path` holds."""
        if not self.is_large(path):
            return check_file(path, expected)
        with self._lock:
            return self._ask(f"{path}\t{expected}\n") or check_file(path, expected)

    def close(self) -> None:
        """End the helper."""
        if self._helper is not None:
            self._helper.communicate()
            self._helper = None

    def _ask(self, question: str) -> Checked | None:
        """Return the helper's answer; None where it died, since the file can be checked here as well."""
        if self._helper is None:
            self._helper = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._helper.stdin is not None  # noqa: S101 - both are pipes
        assert self._helper.stdout is not None  # noqa: S101
        try:
            self._helper.stdin.write(question)
            self._helper.stdin.flush()
            values = json.loads(self._helper.stdout.readline())
        except (OSError, ValueError):
            self.close()
            return None
        return Checked(**{**values, "places": tuple(values["places"])})


def main() -> None:
    """Answer questions until there are no more: the end of the asking process is the end of this one."""
    for question in sys.stdin:
        path, _, expected = question.rstrip("\n").rpartition("\t")
        sys.stdout.write(json.dumps(asdict(check_file(Path(path), expected))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
