"""FHIR's primitive types as JSON Schema (FHIR R4 and R5, chapter "Data types").

Patterns are for a linear-time engine: no look-around, no back-references, so a hostile string costs its length.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_YEAR = r"(?:[0-9](?:[0-9](?:[0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)"
_DAY = (
    rf"(?:{_YEAR}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?"
_OFFSET = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_PART = rf"{_YEAR}(?:-(?:0[1-9]|1[0-2]))?"
_B64 = r"[A-Za-z0-9+/][ \t\n\r]*"

_IDENT = r"[A-Za-z0-9\-.]"
# Spelled out: the engine's own \s is all of Unicode's, which costs milliseconds to compile and is not FHIR's.
_SPACE = r" \t\n\r\x0b\x0c"
# No control character either: a store of text has no place for a NUL.
_BLANK = r" \x00-\x1f"
_FILLED = rf"[^{_BLANK}]"
_TEXT = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]+$"
_UNSIGNED = 2**31 - 1


def _text(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


PRIMITIVES: dict[str, Schema] = {
    "base64Binary": {
        **_text(
            rf"^[ \t\n\r]*(?:(?:{_B64}){{4}})*(?:(?:{_B64}){{2}}=[ \t\n\r]*=[ \t\n\r]*|(?:{_B64}){{3}}=[ \t\n\r]*)?$"
        ),
        "minLength": 1,
    },
    "boolean": {"type": "boolean"},
    "canonical": _text(rf"^{_FILLED}+$"),
    "code": _text(rf"^{_FILLED}+(?:[{_SPACE}]{_FILLED}+)*$"),
    "date": _text(rf"^(?:{_PART}|{_DAY})$"),
    "dateTime": _text(rf"^(?:{_PART}|{_DAY}(?:T{_TIME}{_OFFSET})?)$"),
    "decimal": {"type": "number"},
    "id": {**_text(rf"^{_IDENT}+$"), "maxLength": 64},
    "instant": _text(rf"^{_DAY}T{_TIME}{_OFFSET}$"),
    "integer": _whole(-_UNSIGNED - 1, _UNSIGNED),
    "integer64": {"type": ["string", "integer"], "pattern": r"^(?:0|-?[1-9][0-9]{0,18})$"},
    "markdown": _text(_TEXT),
    "oid": _text(r"^urn:oid:[0-2](?:\.(?:0|[1-9][0-9]*))+$"),
    "positiveInt": _whole(1, _UNSIGNED),
    "string": _text(_TEXT),
    "time": _text(rf"^{_TIME}$"),
    "unsignedInt": _whole(0, _UNSIGNED),
    "uri": _text(rf"^{_FILLED}+$"),
    "url": _text(rf"^{_FILLED}+$"),
    "uuid": _text(r"^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    "xhtml": _text(_TEXT),
}


def reference(targets: tuple[str, ...], fragments: bool = True) -> Schema:
    """Return the schema of `Reference.reference` where only `targets` may be meant (R4 section 2.3.0.1).

    A fragment, a URN and an absolute URL that does not end in a type and an id cannot be told; they pass. Fragments
    may be refused, for what they refer to may be missing.
    """
    fragment = rf"#{_FILLED}*|" if fragments else ""
    names = "|".join(targets) if targets else "[A-Z][A-Za-z]+"
    literal = rf"(?:{names})/{_IDENT}+(?:/_history/{_IDENT}+)?"
    no_type = rf"(?:[^{_BLANK}A-Z_/][^{_BLANK}/]*|_[^{_BLANK}h/][^{_BLANK}/]*)?"
    server = rf"https?://[^{_BLANK}/]+"
    web = rf"{server}(?:(?:/[^{_BLANK}/]*)*/{no_type}/[^{_BLANK}/]*|/[^{_BLANK}/]*)?"
    return _text(
        rf"^(?:{fragment}urn:{_FILLED}+|(?:{server}(?:/[^{_BLANK}/]*)*/)?{literal}|(?:{names})\?{_FILLED}+|{web})$"
    )
