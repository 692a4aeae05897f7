"""MLLP blocks cut out of a stream of bytes (MLLP, Transport Specification, release 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VT, FS = b"\x0b", b"\x1c"
_STARTS = (b"MSH", b"FHS", b"BHS")
_BETWEEN = b"\r\n\x0b\x1c \t\0"
_NOISE = 4096
"""Bytes outside any block after which a peer does not speak MLLP."""


class NotMllp(Exception):
    """What comes is not MLLP: more than a little stands outside any block."""


class TooLarge(Exception):
    """A block is longer than the limit; `start` is its beginning."""

    def __init__(self, start: bytes) -> None:
        super().__init__("block longer than the limit")
        self.start = start


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between a start byte and its end; `ended` is false where another start byte took the end's place."""

    data: bytes
    ended: bool = True

    def landed(self) -> bytes:
        """Return the block as it is kept."""
        return b"\x0b" + self.data + (b"\x1c\r" if self.ended else b"\r")


class Cutter:
    """Cuts one connection's bytes, however they were chopped; holds at most one block and what came with its end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.inside = False
        self.noise = 0
        self._buffer = bytearray()
        self._seen = 0

    @property
    def held(self) -> int:
        """Bytes that wait for more."""
        return len(self._buffer)

    @property
    def may_end(self) -> bool:
        """Whether the last byte was an end byte: a block ends here unless what follows is text."""
        return self.inside and self._buffer[-1:] == FS

    def feed(self, data: bytes) -> Iterator[Block]:
        """Yield the blocks that `data` completes; raises `NotMllp` or `TooLarge`."""
        self._buffer += data
        while True:
            if not self.inside and not self._begin():
                return
            block = self._end()
            if block is None:
                if len(self._buffer) > self.limit:
                    raise TooLarge(bytes(self._buffer[:4096]))
                return
            if len(block.data) > self.limit:
                raise TooLarge(block.data[:4096])
            yield block

    def finish(self) -> Block | None:
        """Return the block whose end byte was the last one that came: its carriage return is missing."""
        if not self.may_end:
            return None
        block = Block(bytes(self._buffer[:-1]))
        self._leave(len(self._buffer))
        return block

    def _begin(self) -> bool:
        at = self._buffer.find(VT)
        before = self._buffer if at < 0 else self._buffer[:at]
        self.noise += len(before.translate(None, _BETWEEN))
        if self.noise > _NOISE:
            raise NotMllp
        del self._buffer[: len(before) + (at >= 0)]
        self.inside, self._seen = at >= 0, 0
        return self.inside

    def _end(self) -> Block | None:
        """Look for the block's end in what has not been looked at yet."""
        buffer = self._buffer
        while True:
            end, start = buffer.find(FS, self._seen), buffer.find(VT, self._seen)
            at = min(end if end >= 0 else len(buffer), start if start >= 0 else len(buffer))
            if at == len(buffer):
                self._seen = at
                return None
            following = bytes(buffer[at + 1 : at + 4])
            if at == end:
                if not following:
                    self._seen = at
                    return None
                if following[0] in b"\r\n\x0b":
                    block = Block(bytes(buffer[:at]))
                    self._leave(at + 1 + (following[0] != VT[0]))
                    return block
            elif len(following) < 3 and any(name.startswith(following) for name in _STARTS):
                self._seen = at
                return None
            elif following in _STARTS:
                block = Block(bytes(buffer[:at]), ended=False)
                self._leave(at)
                return block
            # an end byte with text behind it, a start byte without a header: both belong to the text
            self._seen = at + 1

    def _leave(self, stop: int) -> None:
        del self._buffer[:stop]
        self.inside, self._seen, self.noise = False, 0, 0
