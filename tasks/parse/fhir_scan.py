"""Finds the ends of JSON values in a stream without reading the values themselves.

Nothing is kept but the value that is asked for, so a bundle of any size is walked in the memory of one entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_LEVELS = 6


def _run() -> bytes:
    """Return the pattern of everything up to the next bracket that is not balanced within a few levels."""
    run = rb"(?:[^\"{}\[\]]++|" + _STRING + rb")*+"
    for _ in range(_LEVELS):
        run = rb"(?:[^\"{}\[\]]++|" + _STRING + rb"|[{\[]" + run + rb"[}\]])*+"
    return run


_RUN = re.compile(_run(), re.DOTALL)
_BODY = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}]*+")
_SPACE = re.compile(rb"[\s\x00]*+")
_QUOTE, _OPEN, _CLOSE = ord('"'), b"{[", b"}]"


class TruncatedError(Exception):
    """The stream ended inside a value."""


class Scan:
    """A place in a stream of JSON; `offset` is the absolute byte at which it stands."""

    def __init__(self, chunks: Iterable[bytes], offset: int) -> None:
        self._chunks = iter(chunks)
        self._buffer = bytearray()
        self._at = 0
        self._base = offset
        self._start: int | None = None

    @property
    def offset(self) -> int:
        return self._base + self._at

    def peek(self) -> str:
        """Return the next character that is not white space, without passing it; "" at the end of the stream."""
        while True:
            self._at = self._match_end(_SPACE)
            if self._at < len(self._buffer):
                return chr(self._buffer[self._at])
            if not self._more():
                return ""

    def take(self) -> None:
        """Pass the character that `peek` returned."""
        self._at += 1

    def skip_bom(self) -> None:
        while len(self._buffer) < 3 and self._more():
            pass
        if self._buffer.startswith(b"\xef\xbb\xbf"):
            self._at = 3

    def value(self, limit: int) -> bytes | None:
        """Pass one value and return its bytes, None where they are more than `limit`; raises `TruncatedError`."""
        self.peek()
        self._start, self._limit = self._at, limit
        self._pass_value()
        data = None if self._start is None else bytes(self._buffer[self._start : self._at])
        self._start = None
        return data if data is None or len(data) <= limit else None

    def _pass_value(self) -> None:
        first = self._buffer[self._at : self._at + 1]
        if first and first[0] == _QUOTE:
            self._at += 1
            self._pass_string()
        elif first and first in _OPEN:
            self._at += 1
            self._pass_nested()
        else:
            while True:
                self._at = self._match_end(_SCALAR)
                if self._at < len(self._buffer):
                    return
                self._need_more()

    def _pass_nested(self) -> None:
        depth = 1
        while depth:
            self._at = self._match_end(_RUN)
            if self._at == len(self._buffer):
                self._need_more()
                continue
            here = self._buffer[self._at]
            self._at += 1
            if here == _QUOTE:
                self._pass_string()
            else:
                depth += 1 if here in _OPEN else -1

    def _pass_string(self) -> None:
        while True:
            self._at = self._match_end(_BODY)
            if self._at < len(self._buffer) and self._buffer[self._at] == _QUOTE:
                self._at += 1
                return
            self._need_more()

    def _match_end(self, pattern: re.Pattern[bytes]) -> int:
        match = pattern.match(self._buffer, self._at)
        return match.end() if match else self._at

    def _need_more(self) -> None:
        if not self._more():
            raise TruncatedError

    def _more(self) -> bool:
        """Append the next chunk and drop what nobody asks for any more."""
        if self._start is not None and self._at - self._start > self._limit:
            self._start = None
        done = self._at if self._start is None else self._start
        if done:
            del self._buffer[:done]
            self._base += done
            self._at -= done
            self._start = None if self._start is None else 0
        for chunk in self._chunks:
            if chunk:
                self._buffer += chunk
                return True
        return False
