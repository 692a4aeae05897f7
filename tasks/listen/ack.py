"""Acknowledgements of HL7 v2 messages: original and enhanced mode (HL7 v2 chapter 2, "Message Processing Rules").

A header is read as bytes and echoed as bytes, so that no charset can break an acknowledgement.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime

HEADERS = (b"MSH", b"FHS", b"BHS")
_PADDING = b" \t\r\n\x0b\xef\xbb\xbf"
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not taken: a row of HL7 table 0357 and the field that it is about.

    - `reject` is AR or CR (the header is not acceptable, or nothing can be taken now), else AE or CE.
    """

    code: int
    text: str
    field: int = 0
    reject: bool = False


NO_HEADER = Refusal(100, "Segment sequence error", reject=True)
NO_CONTROL_ID = Refusal(101, "Required field missing", 10)
NO_TYPE = Refusal(101, "Required field missing", 9, reject=True)
NOT_THIS_TYPE = Refusal(200, "Unsupported message type", 9, reject=True)
NOT_THIS_PROCESSING = Refusal(202, "Unsupported processing id", 11, reject=True)
NOT_THIS_VERSION = Refusal(203, "Unsupported version id", 12, reject=True)
DUPLICATE = Refusal(205, "Duplicate key identifier", 10)
NOT_NOW = Refusal(207, "Application internal error", reject=True)
TOO_LARGE = Refusal(207, "Application internal error: the message is longer than this receiver takes", reject=True)


@dataclass(frozen=True, slots=True)
class Header:
    """The header segment of a message or batch: its fields as bytes, `field(1)` being the separator itself."""

    fields: tuple[bytes, ...]
    separator: bytes
    component: bytes
    subcomponent: bytes

    def field(self, number: int) -> bytes:
        """Return a field; empty where there is none, where it says null (`""`), or from another segment."""
        if number == 1:
            return self.separator
        value = self.fields[number - 1] if number <= len(self.fields) else b""
        return b"" if value == b'""' else value

    @property
    def is_message(self) -> bool:
        """Whether this is one message's header and not a batch's."""
        return self.fields[0] == b"MSH"

    @property
    def control(self) -> bytes:
        """The control id: MSH-10, BHS-11, FHS-11."""
        return self.field(10 if self.is_message else 11)

    @property
    def type(self) -> tuple[str, str]:
        """The message code and trigger event of MSH-9."""
        if not self.is_message:
            return "", ""
        code, trigger, *_ = [*self.field(9).split(self.component), b"", b""]
        return code.decode("ascii", "replace"), trigger.decode("ascii", "replace")

    @property
    def version(self) -> tuple[int, ...]:
        """The version of MSH-12 as numbers; empty where it is none."""
        parts = self.field(12).split(self.component)[0].strip().split(b".") if self.is_message else []
        return tuple(int(part) for part in parts) if parts and all(part.isdigit() for part in parts) else ()

    @property
    def enhanced(self) -> bool:
        """Whether the sender asks for enhanced mode: MSH-15 or MSH-16 is valued."""
        return self.is_message and bool(self.field(15) or self.field(16))

    def wants(self, number: int, *, good: bool) -> bool:
        """Say whether MSH-15 or MSH-16 asks for an acknowledgement (HL7 table 0155: AL, NE, ER, SU)."""
        return self.field(number) in ((b"AL", b"SU") if good else (b"AL", b"ER"))


NOBODY = Header((b"MSH", b"^~\\&"), b"|", b"^", b"&")
"""Stands for the header of what has none."""


def read_header(data: bytes) -> Header | None:
    """Return the header of a frame; None where it does not begin with one."""
    start = data[:_LIMIT].lstrip(_PADDING)
    if start[:3] not in HEADERS or len(start) < 8:
        return None
    separator = start[3:4]
    if separator.isalnum() or separator in b" \r\n\t":
        return None
    line = start.replace(b"\n", b"\r").split(b"\r", 1)[0]
    fields = tuple(line.split(separator))
    marks = fields[1]
    return Header(fields, separator, marks[:1] or b"^", marks[3:4] or b"&")


def refusal(header: Header | None, types: Collection[str] = (), processing: Collection[str] = ()) -> Refusal | None:
    """Return why a message with this header is not taken, None where it is.

    `types` are the codes (`ADT`) or code and event (`ADT^A01`) that the feed takes, `processing` the values of
    MSH-11.1; nothing named means that everything is taken.
    """
    if header is None:
        return NO_HEADER
    if not header.is_message:
        return None
    code, trigger = header.type
    mode = header.field(11).split(header.component)[0].decode("ascii", "replace")
    checks = (
        (NO_TYPE, bool(code)),
        (NOT_THIS_TYPE, not types or code in types or f"{code}^{trigger}" in types),
        (NOT_THIS_VERSION, not header.field(12) or header.version[:1] == (2,)),
        (NOT_THIS_PROCESSING, not (processing and mode) or mode in processing),
        (NO_CONTROL_ID, bool(header.control)),
    )
    return next((why for why, good in checks if not good), None)


def accepted(header: Header, control: str, at: datetime, *, application: bool = True) -> list[bytes]:
    """Return what is sent for a message that is durably kept: nothing, one acknowledgement, or in enhanced mode two.

    The application's acknowledgement of enhanced mode says that responsibility was taken; it has a control id of its
    own, and is left out where `application` is false.
    """
    if not header.enhanced:
        return [build(header, "AA", control, at)]
    wanted = [(15, "CA", control), *([(16, "AA", control + "A")] if application else [])]
    return [build(header, code, name, at) for field, code, name in wanted if header.wants(field, good=True)]


def refused(header: Header | None, why: Refusal, control: str, at: datetime) -> list[bytes]:
    """Return what is sent for a message that is not kept."""
    header = header or NOBODY
    letter = "R" if why.reject else "E"
    if not header.enhanced:
        return [build(header, "A" + letter, control, at, why)]
    if header.wants(15, good=False):
        return [build(header, "C" + letter, control, at, why)]
    return [build(header, "A" + letter, control, at, why)] if header.wants(16, good=False) else []


def build(header: Header, code: str, control: str, at: datetime, why: Refusal | None = None) -> bytes:
    """Return an acknowledgement: MSH, MSA, and ERR where something is wrong; separators are the sender's own."""
    separator = header.separator
    sender = [header.field(number) for number in (5, 6, 3, 4)]
    time = at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000").encode()
    echo = [header.field(number) if header.is_message else b"" for number in (11, 12)]
    charset = header.field(18) if header.is_message else b""
    msh = [b"MSH", header.fields[1], *sender, time, b"", _type(header), control.encode()[:20]]
    msh += [echo[0] or b"P", echo[1] or b"2.5.1", *[b""] * 5, charset]
    old = bool(header.version) and header.version < (2, 5)
    msa = [b"MSA", code.encode(), header.control, why.text.encode() if why and old else b""]
    segments = [_joined(separator, msh), _joined(separator, msa)]
    if why:
        segments.append(_joined(separator, _err(header, why, old=old)))
    return b"\r".join([*segments, b""])


def _type(header: Header) -> bytes:
    """MSH-9 of the acknowledgement: the trigger event since 2.2, the structure since 2.3.1."""
    _, trigger = header.type
    version = header.version or (2, 5, 1)
    # what cannot be an event (table 0003) is somebody's data in the wrong place, and is not repeated
    if not (len(trigger) == 3 and trigger.isascii() and trigger.isalnum()) or version < (2, 2):
        return b"ACK"
    parts = [b"ACK", trigger.encode("ascii")]
    return header.component.join(parts if version < (2, 3, 1) else [*parts, b"ACK"])


def _err(header: Header, why: Refusal, *, old: bool) -> list[bytes]:
    """ERR-1 up to version 2.4, ERR-2 to ERR-4 and ERR-8 since 2.5."""
    place = [header.fields[0], b"1", *([str(why.field).encode()] if why.field else [])]
    said = [str(why.code).encode(), why.text.encode(), b"HL70357"]
    if old:
        place += [b""] * (3 - len(place))
        return [b"ERR", header.component.join([*place, header.subcomponent.join(said)])]
    codes = [header.component.join(place), header.component.join(said)]
    return [b"ERR", b"", *codes, b"E", b"", b"", b"", why.text.encode()]


def _joined(separator: bytes, fields: list[bytes]) -> bytes:
    return separator.join(fields).rstrip(separator)
