"""Files of an export checked beside their download: by the thread that writes them, or by a helper that follows.

The helper is a process of its own: it takes large files where there are cores enough that it costs nobody anything.
Run as a module it is the helper: it reads orders, one JSON array a line. `["read", id, path, type, size]` checks the
file as far as it is written, `["tell", id]` answers with the check as JSON, `["drop", id]` forgets it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from tasks.source.bulk_lines import Checked, LineCheck, check_file, feed_file

LARGE = 1 << 20
"""From this size on a file is checked by the helper, so that checking does not hold up the downloads."""
CORES = 3
"""From this many on there is one for the helper, beside this process and what else the machine does."""
_STEP = 1 << 20
_BLOCK = 1 << 18


class Checker:
    """Checks files for many threads, large ones with `helper` in a process of its own, which ends with this one."""

    def __init__(self, helper: bool = (os.cpu_count() or 1) >= CORES) -> None:
        self._numbers = itertools.count(1)
        self._writing, self._asking = threading.Lock(), threading.Lock()
        self._helper: subprocess.Popen[str] | None = None
        self._alone = not helper

    def follow(self, path: Path, expected: str) -> Follow:
        """Return the check of a file that is about to be written; `expected` is a resource type or empty."""
        return Follow(self, next(self._numbers), path, LineCheck(expected) if self._alone else None, expected)

    def close(self) -> None:
        """End the helper."""
        with self._writing:
            helper, self._helper = self._helper, None
            self._alone = True
        if helper is not None:
            with contextlib.suppress(OSError, ValueError):
                helper.communicate()

    def order(self, *order: Any) -> bool:
        """Hand the helper an order; say no where there is none: the file can be checked here as well."""
        with self._writing:
            if self._alone:
                return False
            try:
                self._helper = self._helper or _started()
                _pipe(self._helper.stdin).write(json.dumps(order) + "\n")
                _pipe(self._helper.stdin).flush()
            except (OSError, ValueError):
                return False
        return True

    def ask(self, number: int) -> Checked | None:
        """Return what the helper found in a file; None where the helper died."""
        with self._asking:
            if not self.order("tell", number) or self._helper is None:
                return None
            try:
                values = json.loads(_pipe(self._helper.stdout).readline())
            except (OSError, ValueError):
                return None
        return Checked(**{**values, "places": tuple(values["places"])}) if values else None


@dataclass(slots=True)
class Follow:
    """The check of one file while it is written; `own` where no helper does it."""

    checker: Checker
    number: int
    path: Path
    own: LineCheck | None
    expected: str
    told: int = 0

    def begin(self, size: int) -> None:
        """Look at the `size` bytes that are there from an earlier time."""
        if self.own is not None and size:
            feed_file(self.own, self.path)

    def take(self, chunk: bytes) -> None:
        """Look at bytes that are being written."""
        if self.own is not None:
            self.own.feed(chunk)

    def wants(self, size: int) -> bool:
        """Say whether the helper should hear that the file has `size` bytes by now."""
        return self.own is None and size >= LARGE and size - self.told >= _STEP

    def to(self, size: int) -> None:
        """Let the helper check as far as `size`; those bytes have to be in the file."""
        self.told = size
        self.checker.order("read", self.number, str(self.path), self.expected, size)

    @property
    def is_large(self) -> bool:
        """Say whether the helper has the file in hand: its answer is worth waiting for elsewhere."""
        return self.told > 0

    def result(self) -> Checked:
        """Return what the file holds, which is written whole."""
        if self.told:
            self.to(self.path.stat().st_size)
            found = self.checker.ask(self.number)
            if found is not None and found.size == self.told:
                return found
        if self.own is not None and self.own.size == self.path.stat().st_size:
            return self.own.close()
        return check_file(self.path, self.expected)

    def drop(self) -> None:
        """Forget the file: its writing was given up."""
        if self.told:
            self.checker.order("drop", self.number)


def _started() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # noqa: S101 - both ends were asked for
    return pipe


class _Followed:
    """One file in the helper: how far it was read, and the check so far."""

    def __init__(self, path: str, expected: str) -> None:
        self.file, self.at, self.check = Path(path).open("rb"), 0, LineCheck(expected)  # noqa: SIM115

    def to(self, size: int) -> None:
        while self.at < size and (block := self.file.read(min(_BLOCK, size - self.at))):
            self.at += len(block)
            self.check.feed(block)


def main() -> None:
    """Take orders until there are no more: the end of the asking process is the end of this one."""
    files: dict[int, _Followed] = {}
    for line in sys.stdin:
        order, number, *rest = json.loads(line)
        if order == "read":
            path, expected, size = rest
            # A file that cannot be read is not answered for: who asks reads it then, and says what is wrong.
            with contextlib.suppress(OSError):
                if number not in files:
                    files[number] = _Followed(path, expected)
                files[number].to(size)
            continue
        known = files.pop(number, None)
        if known is not None:
            known.file.close()
        if order == "tell":
            sys.stdout.write(json.dumps(asdict(known.check.close()) if known else None) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
