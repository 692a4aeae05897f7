"""Names of files: which ones a feed wants, which ones are safe, and how a message speaks of one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Any

from tasks.model import Offer

ARCHIVE = "archive"
"""The folder beside a taken file into which `after: archive` moves it."""


_NOWHERE = frozenset(("", ".", ".."))


def patterns(match: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return the globs of a feed's `match`, which may be one or several."""
    return (match,) if isinstance(match, str) else match


def deep(globs: Iterable[str]) -> bool:
    """Say whether a glob looks into subfolders (it has a `/`)."""
    return any("/" in glob for glob in globs)


def matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Return the test whether a name matches one of `globs`.

    `*` and `?` stay within a folder and do not match a leading dot (uploaders write `.name.tmp`), `**/` stands for
    any folders, `[...]` for one of the characters.
    """
    compiled = re.compile("|".join(f"(?:{_regex(glob)})" for glob in globs), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def safe(name: str) -> bool:
    """Say whether `name` is relative, stays where it is and holds no control character that splits or ends it."""
    return "\0" not in name and _NOWHERE.isdisjoint(name.split("/"))


def readable(raw: bytes) -> str:
    """Return a name's text; names that are not UTF-8 come from old Windows senders and are read as such."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "backslashreplace")


def spelled(raw: bytes) -> dict[str, Any]:
    """Return the part of an offer's `meta` that keeps a name's bytes where `readable` is not their UTF-8 form."""
    return {} if readable(raw).encode() == raw else {"raw": raw.hex()}


def raw_name(offer: Offer) -> bytes:
    """Return the bytes of the offer's name as the other side spells it."""
    return bytes.fromhex(offer.meta["raw"]) if "raw" in offer.meta else offer.name.encode()


def archived(offer: Offer, target: str) -> bytes:
    """Return the bytes of the last part of `target`, an archive's name for the offer: its own, and what tells it."""
    base = offer.name.rpartition("/")[2]
    return raw_name(offer).rpartition(b"/")[2] + target.rpartition("/")[2][len(base) :].encode()


def content_id(name: str) -> str:
    """Return the short id by which messages and logs speak of a file: names can hold a patient's name."""
    return "file:" + hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _regex(glob: str) -> str:
    return "/".join(_segment(part) for part in glob.split("/")).replace("<any>/", "(?:[^/.][^/]*/)*")


def _segment(glob: str) -> str:
    if glob == "**":
        return "<any>"
    hidden = "" if glob.startswith(".") else r"(?!\.)"
    return hidden + "".join(_piece(piece) for piece in re.findall(r"\[!?\]?[^\]]*\]|.", glob, re.DOTALL))


def _piece(piece: str) -> str:
    if piece == "*":
        return "[^/]*"
    if piece == "?":
        return "[^/]"
    if len(piece) > 1:
        inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[").replace("&", "\\&").replace("~", "\\~")
        return "[^/" + inside[1:] + "]" if inside.startswith("!") else f"[{inside}]"
    return re.escape(piece)
