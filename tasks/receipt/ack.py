"""A batch of acknowledgements for an HL7 v2 file (HL7 v2 chapter 2, "Batch protocol" and "Acknowledgment messages").

One acknowledgement a message. Of a message only its header is read: who sent it to whom, its type, control id,
processing id, version and charset; nothing about a patient stands in an answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from tasks.listen.ack import Header, build, read_header
from tasks.model import Frame
from tasks.receipt.model import Receipt, Stopped

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})(?:[\[(](\d+)[\])])?(?:-(\d+)(?:[\[(](\d+)[\])])?(?:\.(\d+)(?:\.(\d+))?)?)?")
"""`PID-3[2].4.1`: segment, its number, field, repetition, component, subcomponent."""

_CODES = (
    (re.compile("required|missing|absent|no-natural-key"), b"101", b"Required field missing"),
    (re.compile("unmapped|code|binding|value-set"), b"103", b"Table value not found"),
    (re.compile("type|invalid|format|time|date|number"), b"102", b"Data type error"),
    (re.compile("out-of-place|not-hl7v2|structure"), b"100", b"Segment sequence error"),
)
_OTHER = (b"207", b"Application internal error")
"""HL7 table 0357; our own code stands beside it in ERR-5."""


def batch(receipt: Receipt, frames: Iterable[Frame]) -> Iterator[bytes]:
    """Yield the file: FHS, BHS, an ACK for each message, BTS with their number, FTS.

    MSA-1 is AA for what was taken (a duplicate was, before; what a route drops too), AE for what was refused for its
    content, AR for what it is. The same receipt and frames give the same bytes.
    """
    at = datetime.fromisoformat(receipt.made_at)
    stopped = {record.ordinal: record for record in receipt.refused_records}
    number = receipt.delivery or 0
    time = at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    yield f"FHS|^~\\&|SLUICE||||{time}||||{number}\rBHS|^~\\&|SLUICE||||{time}||||{number}\r".encode()
    count = 0
    for frame in frames:
        header = read_header(frame.data)
        if header is None or not header.is_message:
            # what stands between messages has no control id to answer to: the receipt tells of it
            continue
        count += 1
        yield answer(header, f"{number}.{frame.ordinal}", at, stopped.get(frame.ordinal))
    yield f"BTS|{count}\rFTS|1\r".encode()


def answer(header: Header, control: str, at: datetime, stopped: Stopped | None) -> bytes:
    """Return one acknowledgement, with an ERR segment for each thing that was wrong."""
    if stopped is None:
        return build(header, "AA", control, at)
    said = build(header, "AR" if stopped.header else "AE", control, at)
    old = bool(header.version) and header.version < (2, 5)
    return said + b"".join(_err(header, code, place, old=old) for code, place in stopped.findings)


def _err(header: Header, code: str, place: str, *, old: bool) -> bytes:
    """ERR-1 (segment, number, field, code) up to version 2.4; ERR-2 to ERR-5 and, for other places, ERR-7 since 2.5."""
    match = _PLACE.fullmatch(place)
    parts = [(part or "").encode() for part in match.groups()] if match else []
    where = {"segment": b"", "number": b"", "field": b""} | dict(
        zip(("segment", "number", "field"), parts, strict=False)
    )
    if where["segment"]:
        where["number"] = where["number"] or b"1"
    number, words = _table_0357(code)
    own = _plain(header, code)
    if old:
        inner = header.subcomponent.join([number, own, b"L"])
        return _line(header, [b"ERR", header.component.join([*where.values(), inner])])
    spot = [*where.values(), *(_repetition(parts))]
    while spot and not spot[-1]:
        spot.pop()
    fields = [b"ERR", b"", header.component.join(spot), header.component.join([number, words, b"HL70357"]), b"E"]
    fields += [header.component.join([own, b"", b"L"]), b"", b"" if match else _plain(header, place)]
    return _line(header, fields)


def _repetition(parts: list[bytes]) -> list[bytes]:
    """The repetition, component and subcomponent of an ERL; the repetition is 1 where a component is named alone."""
    if len(parts) < 6 or not any(parts[3:]):
        return []
    return [parts[3] or b"1", parts[4], parts[5]]


def _table_0357(code: str) -> tuple[bytes, bytes]:
    return next(((number, words) for known, number, words in _CODES if known.search(code)), _OTHER)


def _plain(header: Header, text: str) -> bytes:
    """A code or place without what the message's separators mean."""
    marks = header.separator + header.fields[1]
    return bytes(byte if 32 <= byte < 127 and byte not in marks else 95 for byte in text.encode("ascii", "replace"))


def _line(header: Header, fields: list[bytes]) -> bytes:
    return header.separator.join(fields).rstrip(header.separator) + b"\r"
