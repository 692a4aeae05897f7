"""HL7 v2: files, batches and MLLP streams to messages (HL7 v2 chapter 2, "Control")."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mappings.engine.model import Profile
from tasks.model import BEGIN, Frame, Parsed, Position
from tasks.parse.v2_escapes import Field, Repetition
from tasks.parse.v2_framing import Splitter
from tasks.parse.v2_message import CLEAR, Message, Segment
from tasks.parse.v2_read import read_message

__all__ = ["CLEAR", "Field", "Hl7v2Format", "Message", "Repetition", "Segment"]


class Hl7v2Format:
    """The format of HL7 v2 messages, encoded with separators (ER7)."""

    def __init__(self, profile: Profile) -> None:
        """Take the feed's profile; the format itself has nothing to declare."""
        self.profile = profile

    def split(self, chunks: Iterable[bytes], start: Position = BEGIN) -> Iterator[Frame]:
        """Yield one frame a message, and one with an error for what stands between messages.

        MLLP blocks, batches, several messages without a batch header; byte-order marks; any line end. Memory is that
        of the longest message. Findings: `count-disagrees` (BTS-1, FTS-1), `batch-trailer-missing`,
        `end-bytes-missing`, `message-too-large`, `not-hl7v2`. Raises `BadRecord` where nothing looks like HL7 v2.
        """
        return Splitter(chunks, start).frames()

    def parse(self, frame: Frame) -> Parsed:
        """Return the frame's `Message`; raises `BadRecord` (`not-hl7v2` at `MSH` or `MSH-9`, `message-too-complex`)."""
        message = read_message(frame.data, frame.context.get("charset", ""))
        return Parsed(frame, message, message.findings)
