"""Narrative as FHIR allows it: XHTML of basic formatting, nothing that acts (FHIR R4 section 2.4.5)."""

from __future__ import annotations

import re
from html.entities import name2codepoint
from typing import NamedTuple
from xml.parsers import expat

_ELEMENT_NAMES = """
a abbr acronym address area b bdo big blockquote br caption center cite code col colgroup dd del dfn div dl dt em font
h1 h2 h3 h4 h5 h6 hr i img ins kbd li map ol p pre q s samp small span strike strong sub sup table tbody td tfoot th
thead tr tt u ul var
"""
_ATTRIBUTE_NAMES = """
abbr accesskey align alt axis bgcolor border cellpadding cellspacing char charoff charset cite class clear color
colspan compact coords datetime dir face frame headers height href hreflang hspace id idref ismap lang longdesc name
nohref noshade nowrap rel rev rowspan rules scope shape size span src start style summary tabindex target title type
usemap valign value vspace width xml:lang xml:space xmlns
"""
_ELEMENTS = frozenset(_ELEMENT_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())
_LINKS = frozenset({"href", "src", "longdesc", "cite", "usemap"})
_SCHEME = re.compile(r"[\s\x00-\x1f]*([A-Za-z][A-Za-z0-9+.\-\s]*):")
_SCHEMES = frozenset({"http", "https", "ftp", "mailto", "tel", "urn", "cid"})
_IMAGE = re.compile(r"data:\s*image/(?:png|jpeg|gif|bmp|webp);", re.IGNORECASE)
_ACTS = re.compile(r"expression\s*\(|javascript:|behavior\s*:|-moz-binding|@import", re.IGNORECASE)
_NAMED = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XHTML = "http://www.w3.org/1999/xhtml"


class _Seen(NamedTuple):
    safe: bool
    text: bool


def is_safe(div: object) -> bool:
    """Say whether a narrative is one div of well-formed XHTML without script, form, frame or handler."""
    return _read(div).safe


def has_text(div: object) -> bool:
    """Say whether a narrative shows something: a text or an image."""
    return _read(div).text


def _read(div: object) -> _Seen:
    if not isinstance(div, str) or "<!DOCTYPE" in div or "<!ENTITY" in div:
        return _Seen(safe=False, text=True)
    reader = _Reader()
    try:
        reader.parser.Parse(_NAMED.sub(_character, div.strip()), True)
    except (expat.ExpatError, ValueError):
        # surrogates are a ValueError
        return _Seen(safe=False, text=True)
    return _Seen(reader.safe, reader.text)


def _character(entity: re.Match[str]) -> str:
    """Return what one of HTML's entities stands for, which XML does not know; XML's own stay."""
    code = name2codepoint.get(entity[1]) if entity[1] not in {"amp", "lt", "gt", "quot", "apos"} else None
    return entity[0] if code is None else chr(code)


class _Reader:
    def __init__(self) -> None:
        self.safe = True
        self.text = False
        self._fresh = True
        self.parser = parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._characters
        parser.ProcessingInstructionHandler = self._refuse

    def _refuse(self, *_arguments: str) -> None:
        self.safe = False

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        # a div without its namespace is what many send, and cannot be anything else
        outer, self._fresh = self._fresh, False
        right = name == "div" and attributes.get("xmlns", _XHTML) == _XHTML if outer else name in _ELEMENTS
        self.safe = self.safe and right and all(_is_harmless(*one) for one in attributes.items())
        self.text = self.text or name == "img"

    def _characters(self, text: str) -> None:
        self.text = self.text or not text.isspace()


def _is_harmless(name: str, value: str) -> bool:
    if name not in _ATTRIBUTES and not name.startswith("data-"):
        return False
    if name == "style":
        return not _ACTS.search(value)
    scheme = _SCHEME.match(value) if name in _LINKS else None
    return scheme is None or scheme[1].lower() in _SCHEMES or (name == "src" and bool(_IMAGE.match(value)))
