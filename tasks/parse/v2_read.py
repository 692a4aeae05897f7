"""A frame's bytes to a message: header, charset, lines, segments, tree."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import count, repeat
from typing import NoReturn
from weakref import ref

from tasks.errors import BadRecord
from tasks.model import Finding
from tasks.parse.v2_charsets import CONTROLS, decode, wide_encoding
from tasks.parse.v2_dictionary import VERSIONS, Dictionary, dictionary
from tasks.parse.v2_escapes import Delimiters, Field, delimiters
from tasks.parse.v2_events import KNOWN, WITHOUT_TRIGGER, fits
from tasks.parse.v2_message import CLEAR, Message, Segment
from tasks.parse.v2_place import layout_of

_BLANK = b" \t\r\n\x0b\x1c\xef\xbb\xbf"
_END = b"\r\n\x0b\x1a\x1c"
_PLAIN = bytes([9, 10, 13, *range(32, 127), *range(128, 256)])
_BROKEN = re.compile(r"[A-Z][A-Z0-9]{3}")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")

PARTS = 500_000
"""Segments, fields, repetitions, components and subcomponents of a message: each costs 200 bytes once it is read."""


def read_message(data: bytes, charset: str = "") -> Message:
    """Return the message in `data`, in `charset` whatever it declares where that is given.

    Findings: `charset-disagrees`, `charset-unknown` (MSH-18), `control-character` (some were left out), `stray-line`
    (a line that is no segment was joined to the one before it), `segment-name-invalid` (a line after the segment was
    left out: its name is none), `escape-kept`, `escape-unknown`, `separators-odd` (MSH-2),
    `version-unknown` (MSH-12), `structure-unknown` (MSH-9), `trigger-missing` (MSH-9.2), `structure-disagrees`
    (MSH-9.3), `event-disagrees` (EVN-1), `segment-out-of-place`.
    Raises `BadRecord` where MSH cannot be read (`not-hl7v2`) or parts are without end (`message-too-complex`).
    """
    message = Message()
    findings: list[Finding] = []
    text = _text(message, data, charset, findings)
    marks = message.marks = _marks(text, message.charset)
    _count_parts(text, marks)
    if _regular(marks.field)(text):
        lines = text.split("\r")
        names = tuple([line[:3] for line in lines])
        message.segments = [*map(Segment, lines, names, count(), _ordinals(names), repeat(marks), repeat(ref(message)))]
    else:
        _segments(message, text.split("\r"), marks, findings)
        names = tuple([segment.name for segment in message.segments])
    _header(message, findings)
    if marks.odd:
        findings.append(Finding("separators-odd", "MSH-2"))
    if message.version not in VERSIONS:
        findings.append(Finding("version-unknown", "MSH-12", "information"))
    # The first one stands in MSH-2.
    if marks.escape and text.count(marks.escape) > 1:
        findings.extend(_odd_escapes(message, marks))
    message.layout, placing = layout_of(message.dictionary.version, message.structure, names)
    message.findings = (*findings, *placing)
    return message


def _text(message: Message, data: bytes, charset: str, findings: list[Finding]) -> str:
    wide = None if data.startswith(b"MSH") and data[3:4] != b"\0" else wide_encoding(data)
    if wide:
        text, message.charset = data.decode(wide, "replace").lstrip("\ufeff"), wide
        disagrees = "charset-disagrees" if "\ufffd" in text else None
    else:
        if not data.startswith(b"MSH"):
            data = data.lstrip(_BLANK)
        data = data.rstrip(_END)
        text, message.charset, disagrees = decode(data, (charset,) if charset else _declared(data))
    if not text.startswith("MSH"):
        _refuse("MSH")
    if disagrees:
        findings.append(Finding(disagrees, "MSH-18"))
    if data.translate(None, _PLAIN) and not text.isprintable():
        text = _without_controls(text, findings)
    if "\n" in text:
        text = text.replace("\r\n", "\r").replace("\n", "\r")
    return text[:-1] if text[-1] == "\r" else text


def _without_controls(text: str, findings: list[Finding]) -> str:
    """Return `text` without the control characters that a FHIR string may not have; a NUL no store of text takes."""
    plain = CONTROLS.sub("", text)
    if plain != text:
        findings.append(Finding("control-character", "MSH"))
    return plain


def _declared(data: bytes) -> tuple[str, ...]:
    """Return the repetitions of MSH-18, read before the charset is known: the separators are ASCII in all of them."""
    header = data.partition(b"\r")[0].partition(b"\n")[0]
    fields = header.split(data[3:4] or b"|", 18)
    if len(fields) < 18 or not fields[17]:
        return ()
    repetition = fields[1][1:2]
    names = fields[17].split(repetition) if repetition else [fields[17]]
    return tuple([name.decode("ascii", "replace").strip() for name in names])


def _marks(text: str, charset: str) -> Delimiters:
    mark = text[3:4]
    if not mark or mark.isalnum() or mark.isspace() or not mark.isprintable():
        _refuse("MSH")
    # MSH-2 ends at the next separator; where there is none, at the line's end.
    encoding = text[4:10].partition(mark)[0].partition("\r")[0]
    return delimiters(mark, encoding[:5], charset)


@lru_cache(maxsize=64)
def _regular(mark: str) -> Callable[[str], object]:
    """Return the test that every line of a text is a segment with fields."""
    return re.compile(rf"(?:[A-Z][A-Z0-9]{{2}}{re.escape(mark)}[^\r]*+(?:\r|\Z))++\Z").match


@lru_cache(maxsize=2048)
def _ordinals(names: tuple[str, ...]) -> tuple[int, ...]:
    counts: dict[str, int] = {}
    found = []
    for name in names:
        counts[name] = ordinal = counts.get(name, 0) + 1
        found.append(ordinal)
    return tuple(found)


def _segments(message: Message, lines: list[str], marks: Delimiters, findings: list[Finding]) -> None:
    """Make the segments of lines some of which do not begin like one."""
    segments: list[Segment] = []
    message.segments = segments
    counts: dict[str, int] = {}
    stray: dict[int, list[str]] = {}
    home = ref(message)
    for line in lines:
        text = line.strip(" \t")
        before = segments[-1] if segments else None
        name = text[:3]
        if _NAME.fullmatch(name) and text[3:4] in ("", marks.field):
            counts[name] = ordinal = counts.get(name, 0) + 1
            segments.append(Segment(text if line[:1].isspace() else line, name, len(segments), ordinal, marks, home))
        elif text and before and _belongs(before.name, text.partition(marks.field)[0]):
            stray.setdefault(len(segments) - 1, []).append(line)
        elif text and before:
            findings.append(Finding("segment-name-invalid", _place(before)))
    for index, parts in stray.items():
        segment = segments[index]
        segment.extend(parts)
        findings.append(Finding("stray-line", _place(segment)))


def _belongs(before: str, word: str) -> bool:
    """Say whether a line that begins with `word` goes on with a field of segment `before`."""
    if before in ("OBX", "NTE"):
        return _BROKEN.fullmatch(word) is None
    return before != "MSH" and not word.isalnum()


def _odd_escapes(message: Message, marks: Delimiters) -> list[Finding]:
    found = []
    for segment in message.segments:
        for n, text in enumerate(segment.texts):
            code = marks.odd_escapes(text) if n != 2 or segment.name != "MSH" else ""
            if code:
                found.append(
                    Finding(code, f"{_place(segment)}-{n}", "warning" if code == "escape-kept" else "information")
                )
    return found


def _place(segment: Segment) -> str:
    """Return the segment's name as findings have it: `PID`, `OBX[2]`."""
    return f"{segment.name}[{segment.ordinal}]" if segment.ordinal > 1 else segment.name


def _header(message: Message, findings: list[Finding]) -> None:
    """Set what MSH-9 and MSH-12 say of the message; EVN-1 is its event where MSH-9.2 leaves that open, as in 2.1."""
    header = message.segments[0]
    event = next((one.value(1).strip().upper() for one in message.segments[1:6] if one.name == "EVN"), "")
    kind = _kind(header.field(9), header.value(12), event if _EVENT.fullmatch(event) else "")
    message.code, message.trigger, message.structure, message.version, message.dictionary, disagrees = kind
    if not message.code:
        _refuse("MSH-9")
    sent, said = header.value(9, 1, 2), (message.code, message.trigger)
    if (header.value(9), sent) != said and message.marks.component:
        # For all who ask the header for the event; the segment's text stays as it was sent.
        rest = header.texts[9].split(message.marks.component)[2:]
        header.texts[9] = message.marks.component.join([*said, *rest])
    if event and event != message.trigger:
        findings.append(Finding("event-disagrees", "EVN-1"))
    findings.extend(Finding(code, at, "information") for code, at in disagrees)


_EVENT = re.compile(r"[A-Z][A-Z0-9]{2}")


@lru_cache(maxsize=1024)
def _kind(sent: Field, version: str, event: str) -> tuple[str, str, str, str, Dictionary, tuple[tuple[str, str], ...]]:
    """Return code, trigger, structure, version and dictionary for MSH-9, MSH-12.1 and EVN-1, of which there are few.

    The last are findings: `trigger-missing`, and `structure-disagrees` where MSH-9.3 is none of this event.
    """
    version = version.strip()
    parts = [component[0].strip().upper() for repetition in sent[:1] for component in repetition[:3]]
    code, trigger, declared = ("" if part == CLEAR else part for part in (*parts, "", "", "")[:3])
    words = dictionary(version)
    found: list[tuple[str, str]] = []
    if not trigger:
        trigger = event or WITHOUT_TRIGGER.get(code, "")
        found += [("trigger-missing", "MSH-9.2")] if trigger else []
    structure = words.derive(code, trigger, declared)
    usual = words.derive(code, trigger)
    if structure != usual and usual in words.structures and not fits(code, trigger, structure):
        structure = usual
        found.append(("structure-disagrees", "MSH-9.3"))
    elif declared and structure != declared and declared not in KNOWN:
        found.append(("structure-disagrees", "MSH-9.3"))
    return code, trigger, structure, version, words, tuple(found)


def _count_parts(text: str, marks: Delimiters) -> None:
    """Raise `BadRecord` for a message that is small to send and would be enormous in memory."""
    if len(text) <= PARTS:
        return
    used = (marks.field, marks.repetition, marks.component, marks.subcomponent)
    if sum(text.count(mark) for mark in ("\r", *used) if mark) > PARTS:
        raise BadRecord(Finding("message-too-complex", "MSH", "error"))


def _refuse(location: str) -> NoReturn:
    raise BadRecord(Finding("not-hl7v2", location, "error"))
