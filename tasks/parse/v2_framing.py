"""Deliveries to frames: MLLP blocks, batches (FHS, BHS, BTS, FTS), several messages, and what stands between them.

HL7 v2 chapter 2, "Batch protocol"; MLLP: Transport Specification, release 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tasks.errors import BadRecord
from tasks.model import BEGIN, Finding, Frame, Position
from tasks.parse.v2_marks import Mark, Marks, blank

MAX_MESSAGE = 64 << 20
"""Bytes of the longest message; what is longer is an error, so that a broken stream cannot fill the memory."""

_PIECE = 1 << 20
_SEAM = 16
_PADDING = b"\r\n\x0b\x0c\x1a\0"
_SEGMENT = re.compile(rb"[ \t]*[A-Z][A-Z0-9]{2}")
_TEXT = re.compile(rb"[ \t]*(?:NTE|OBX)")
"""Segments whose text runs over line ends in the wild."""

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r)[ \t]*[\r\n]")
_NOT_HL7 = Finding("not-hl7v2", "MSH", "error")


@dataclass(slots=True)
class _Pending:
    """A frame that waits for the position after it, and for a trailer that has something to say about it."""

    data: bytes
    key: bytes | None
    findings: list[Finding] = field(default_factory=list)


class Splitter:
    """Cuts one delivery into frames.

    A position's context is what trailers count (`messages` of the batch, `batches` of the file), which headers are
    `open`, whether an MLLP `block` is, and a wide `encoding`.
    """

    def __init__(self, chunks: Iterable[bytes], start: Position = BEGIN) -> None:
        context = start.context
        self.marks = Marks(chunks, start.offset, str(context.get("encoding", "")))
        self.ordinal = start.ordinal
        self.messages = int(context.get("messages", 0))
        self.batches = int(context.get("batches", 0))
        self.open: list[str] = list(context.get("open", ()))
        self.block = bool(context.get("block"))
        self.seen = start.offset > 0
        self.pending: _Pending | None = None
        self.ready: list[Frame] = []

    def frames(self) -> Iterator[Frame]:
        """Yield the frames; raises `BadRecord` (`not-hl7v2`) where nothing looks like HL7 v2."""
        position = 0
        while position >= 0:
            position = self._step(position)
            yield from self.ready
            self.ready.clear()

    def _step(self, position: int) -> int:
        """Go on from `position`, which is between messages; return the next such position, -1 at the end."""
        mark = self.marks.find(position, inside=False)
        if mark is None:
            return self._nothing(position)
        self.seen = True
        self._between(position, mark.start)
        if mark.kind == "MSH":
            return self._message(mark)
        return self._batch(mark)

    def _nothing(self, position: int) -> int:
        """Read on where nothing begins in what has been read."""
        if self.marks.end - position > _PIECE + _SEAM:
            self._between(position, position + _PIECE)
            return position + _PIECE
        if self.marks.read():
            return position
        self._between(position, self.marks.end)
        self._finish()
        return -1

    def _between(self, start: int, stop: int) -> None:
        """Take what stands between messages: nothing, or garbage, which is a frame with an error."""
        data = self.marks.slice(start, stop)
        if not blank(data):
            if not self.seen:
                raise BadRecord(_NOT_HL7)
            self._begin(start, _Pending(data.strip(_PADDING), None, [_NOT_HL7]))
        self.marks.release(stop)

    def _message(self, mark: Mark) -> int:
        self._flush(mark.start)
        self.messages += 1
        self.block = self.block or mark.block
        after = self.marks.find(mark.at, inside=True)
        while after is None and self.marks.end - mark.at <= MAX_MESSAGE and self.marks.read():
            after = self.marks.find(mark.at, inside=True)
        stop = after.start if after else min(self.marks.end, mark.at + MAX_MESSAGE)
        data = self.marks.slice(mark.at, stop)
        self.pending = pending = _Pending(*_without_tail(data))
        if after is None and not self.marks.ended:
            pending.key, pending.findings = None, [Finding("message-too-large", "MSH", "error")]
        tail = mark.at + len(pending.data)
        if after and after.kind == "end":
            self.block = False
            stop = after.at + 1
        elif self.block and (after is None or after.block):
            self.block = False
            pending.findings.append(Finding("end-bytes-missing", "MSH"))
        pending.data = pending.data.rstrip(_PADDING)
        stop = min(tail, stop) if len(data) > tail - mark.at else stop
        self.marks.release(stop)
        return stop

    def _batch(self, mark: Mark) -> int:
        stop = self.marks.line_end(mark.at)
        line = self.marks.slice(mark.at, stop)
        count = line.split(line[3:4])[1].strip()
        if mark.kind == "FHS":
            self.open, self.batches, self.messages = ["FHS"], 0, 0
        elif mark.kind == "BHS":
            self.open = [*self.open[:1], "BHS"] if "FHS" in self.open else ["BHS"]
            self.batches, self.messages = self.batches + 1, 0
        elif mark.kind == "BTS":
            self._check(mark, count, self.messages, line)
            self.open, self.messages = [name for name in self.open if name != "BHS"], 0
        else:
            self._check(mark, count, self.batches or 1, line)
            self.open, self.batches, self.messages = [], 0, 0
        return stop

    def _check(self, mark: Mark, count: bytes, counted: int, line: bytes) -> None:
        """Compare a trailer's count: the last message bears the finding, the trailer itself where there is none."""
        if not count.isdigit() or len(count) > 18 or int(count) == counted:
            return
        finding = Finding("count-disagrees", f"{mark.kind}-1")
        if self.pending:
            self.pending.findings.append(finding)
        else:
            self.pending = _Pending(line.rstrip(_PADDING), None, [Finding(finding.code, finding.location, "error")])

    def _begin(self, position: int, pending: _Pending) -> None:
        self._flush(position)
        self.pending = pending

    def _flush(self, position: int) -> None:
        """Hand over the frame that waits: the next one begins at `position`."""
        waiting, self.pending = self.pending, None
        if waiting is None:
            return
        frame = Frame(
            ordinal=self.ordinal,
            location=f"message {self.ordinal}",
            data=waiting.data,
            next=Position(self.marks.source(position), self.ordinal + 1, self._context()),
            key=waiting.key,
            context={"charset": "utf-8"} if self.marks.encoding else {},
            findings=tuple(waiting.findings),
        )
        self.ordinal += 1
        self.ready.append(frame)

    def _context(self) -> dict[str, Any]:
        context = {
            "messages": self.messages,
            "batches": self.batches,
            "open": list(self.open),
            "block": self.block,
            "encoding": self.marks.encoding,
        }
        return {name: value for name, value in context.items() if value}

    def _finish(self) -> None:
        if self.open and self.pending:
            self.pending.findings.append(Finding("batch-trailer-missing", self.open[0]))
        self._flush(self.marks.end)


def _without_tail(data: bytes) -> tuple[bytes, bytes]:
    """Return a message without the lines after its last segment that are none of its text, and its key."""
    end = len(data.rstrip(_PADDING))
    separator = data[3:4]
    start = _last_line(data, end)
    if not _is_segment(data, start, separator):
        while start > 0 and not _is_segment(data, start, separator):
            start = _last_line(data, start - 1)
        own = data.find(b"\r", start, end), data.find(b"\n", start, end)
        stop = min(at for at in own if at >= 0)
        tail = data[stop:end]
        if _BLANK_LINE.match(tail) or (separator not in tail and not _TEXT.match(data, start)):
            data = data[:stop]
    normal = data.replace(b"\r\n", b"\r").replace(b"\n", b"\r").rstrip(_PADDING)
    return data, sha256(normal).digest()


def _last_line(data: bytes, end: int) -> int:
    return max(data.rfind(b"\r", 0, end), data.rfind(b"\n", 0, end)) + 1


def _is_segment(data: bytes, start: int, separator: bytes) -> bool:
    match = _SEGMENT.match(data, start)
    return match is not None and data[match.end() : match.end() + 1] in (b"", b"\r", b"\n", separator)
