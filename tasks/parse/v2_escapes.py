"""Separators and escape sequences: HL7 v2 chapter 2, sections "Message delimiters" and "Use of escape sequences"."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from tasks.parse.v2_charsets import decode_bytes

Repetition = tuple[tuple[str, ...], ...]
"""A repetition: components of subcomponents, unescaped."""

Field = tuple[Repetition, ...]
"""A field: its repetitions; `()` where it is absent or empty."""

SHORT = 64
_SHARED = 8192
"""Characters of the longest field that is kept for the next message, and how many are."""

_LIMIT = 200
"""Most spaces or line ends that one formatting command may ask for: a damaged count must not fill the memory."""


class Delimiters:
    """The separators that MSH-1 and MSH-2 declare; an empty string is a separator that is not in use.

    `context` is all that decides what a text means: two messages with the same one read it alike.
    `odd` says that MSH-2 is empty (the usual separators are taken) or that some of it can be no separator.
    `read` turns a field's text into repetitions of components of subcomponents. Built by `delimiters`, once for
    each set of separators and charset.
    """

    __slots__ = (
        "charset",
        "component",
        "context",
        "cuts",
        "escape",
        "field",
        "odd",
        "pattern",
        "read",
        "repetition",
        "subcomponent",
        "truncation",
    )

    def __init__(self, field: str, encoding: str, charset: str) -> None:
        self.field = field
        self.charset = charset
        used = [_usable(field, encoding, index) for index in range(5)] if encoding else [*"^~\\&", ""]
        self.odd = not encoding or any(not mark for mark in used[: len(encoding)])
        self.component, self.repetition, self.escape, self.subcomponent, self.truncation = used
        self.context = (field, *used, charset)
        # A separator that is not in use is replaced by a character that decoding never leaves in a message.
        self.cuts = (self.repetition or "\0", self.component or "\0", self.subcomponent or "\0")
        self.pattern = _pattern(self.escape) if self.escape else None
        self.read: Callable[[str], Field] = _reader(self)

    def unescape(self, text: str) -> str:
        """Return `text` without escape sequences; what is not one stays as it is."""
        if self.pattern is None or self.escape not in text:
            return text
        return self.pattern.sub(self._replace, text)

    def odd_escapes(self, text: str) -> str:
        r"""Return the code of what is not unescaped in `text`, empty where all of it is.

        `escape-kept`: a sequence that is kept as text (`\Cxxyy\`, `\Mxxyyzz\`, `\Z…\`), written with the standard's
        backslash. `escape-unknown`: an escape character that begins no sequence of the standard, or one without an end.
        """
        if self.pattern is None or self.escape not in text:
            return ""
        if any(match["kept"] for match in self.pattern.finditer(text)):
            return "escape-kept"
        return "escape-unknown" if self.escape in self.pattern.sub("", text) else ""

    def _replace(self, match: re.Match[str]) -> str:
        letter = match["letter"]
        if letter:
            return self._letter(letter)
        if match["hex"]:
            digits = match["hex"].replace(self.escape, "").replace("X", "").replace("x", "")
            return decode_bytes(bytes.fromhex(digits), self.charset)
        if match["command"]:
            return _format(match["command"].lower(), match["count"])
        return f"\\{match['kept']}\\"

    def _letter(self, letter: str) -> str:
        if letter in "HN":
            return ""
        return {
            "F": self.field,
            "S": self.component,
            "T": self.subcomponent or "&",
            "R": self.repetition or "~",
            "E": self.escape,
            "P": self.truncation or "#",
        }[letter]


@lru_cache(maxsize=64)
def delimiters(field: str, encoding: str, charset: str) -> Delimiters:
    """Return the separators for MSH-1 `field` and MSH-2 `encoding` in a message of `charset` (a Python codec)."""
    return Delimiters(field, encoding, charset)


def _usable(field: str, encoding: str, index: int) -> str:
    """Return the separator at `index`: "" where there is none, or where it is a letter, a blank or taken already."""
    mark = encoding[index : index + 1]
    taken = mark == field or mark in encoding[:index]
    return "" if taken or mark.isalnum() or mark.isspace() else mark


def _pattern(escape: str) -> re.Pattern[str]:
    mark = re.escape(escape)
    sequence = f"[Xx](?:[0-9A-Fa-f]{{2}})++{mark}"
    return re.compile(
        f"{mark}(?:(?P<letter>[FSTREPHN]){mark}"
        f"|(?P<hex>{sequence}(?:{mark}{sequence})*+)"
        f"|\\.(?P<command>(?i:br|fi|nf|ce|sp|in|ti|sk))\\s?(?P<count>[+-]?\\d{{0,9}}){mark}"
        f"|(?P<kept>[CM][0-9A-Fa-f]{{4,6}}|Z[0-9A-Za-z]*+){mark})"
    )


def _format(command: str, count: str) -> str:
    number = min(max(int(count), 0), _LIMIT) if count.strip("+-") else None
    if command in ("br", "ce"):
        return "\n"
    if command == "sp":
        return "\n" * (1 if number is None else max(number, 1))
    if command in ("in", "ti", "sk"):
        return " " * (0 if number is None else number)
    return ""


def _reader(marks: Delimiters) -> Callable[[str], Field]:
    """Return the function that reads a field: a lookup, or plain `str.split` where the text was not seen before.

    Most fields of a message are said again by the next one. They are tuples, so that nobody changes what messages
    share.
    """
    repetition, component, sub = marks.cuts
    escape = marks.escape or "\0"
    unescape = marks.unescape

    # What has nothing behind it separates nothing: `A^^` is `A`, and a field of separators alone is empty.
    ends, parts = repetition + component + sub, component + sub

    class Fields(dict[str, Field]):
        """Fields by their text."""

        def __missing__(self, text: str) -> Field:
            full = text.rstrip(ends) if text[-1] in ends else text
            if not full:
                field: Field = ()
            elif escape in full or sub in full or repetition in full:
                field = tuple([components(one) for one in full.split(repetition)])
            elif component in full:
                field = (tuple([(part,) for part in full.split(component)]),)
            else:
                field = (((full,),),)
            if len(text) <= SHORT:
                if len(self) >= _SHARED:
                    self.clear()
                    self[""] = ()
                self[text] = field
            return field

    def components(text: str) -> Repetition:
        full = text.rstrip(parts)
        if escape in full:
            return tuple(
                [tuple([unescape(value) for value in part.rstrip(sub).split(sub)]) for part in full.split(component)]
            )
        return tuple([tuple(part.rstrip(sub).split(sub)) for part in full.split(component)])

    return Fields({"": ()}).__getitem__
