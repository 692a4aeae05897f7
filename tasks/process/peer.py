"""What is read from a system that Sluice writes to as well: its own writing is recognised, its names are known.

An echo is known by the version that the system gave it when Sluice wrote it; where that is not known (an answer that
was lost, a delivery that is under way), by what it says. So nothing comes back, and two systems that are exchanged both
ways come to rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec

from tasks.ledger import peers
from tasks.ledger.db import Connection
from tasks.ledger.peers import Heard, Key, Ours
from tasks.model import Conversion, Frame
from tasks.pipeline import ECHO

TOGETHER = 500
CHANGED = "changed-copy"
"""The reason with which a change to a copy is dropped, where the feed leaves the owner's word alone."""
_REFERENCE = re.compile(
    rb'"(?:reference|url)"\s*:\s*"(?:[^"\\]*/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"]*)?"'
)


class _Meta(msgspec.Struct):
    version: str | None = msgspec.field(default=None, name="versionId")


class _Head(msgspec.Struct):
    type: str = msgspec.field(default="", name="resourceType")
    id: str = ""
    meta: _Meta = msgspec.field(default_factory=_Meta)


_head = msgspec.json.Decoder(_Head)


class Peer:
    """A feed's peer: the destination `name` that is the feed's source; `take` says that changed copies are taken."""

    def __init__(self, name: str, *, take: bool) -> None:
        self.name = name
        self._otherwise = None if take else CHANGED

    def marked(self, reader: Connection, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Yield the frames, each with what is known of its resource and of what that refers to."""
        left = iter(frames)
        while group := list(islice(left, TOGETHER)):
            heads = [_named(frame) for frame in group]
            keys = {key for frame in group for key in _mentioned(frame)} | {key for key, _ in heads}
            ours = peers.ours(reader, self.name, keys)
            doubtful = [
                (key[0], ours[key].id) for key, version in heads if key in ours and not _written(ours[key], version)
            ]
            stands = peers.stands(reader, doubtful)
            for frame, (key, version) in zip(group, heads, strict=True):
                yield self._marked(frame, key, version, ours, stands)

    def _marked(
        self, frame: Frame, key: Key, version: str | None, ours: dict[Key, Ours], stands: dict[Key, str]
    ) -> Frame:
        named = {"/".join(one): ours[one].id for one in {key, *_mentioned(frame)} if one in ours}
        own = ours.get(key)
        more: dict[str, Any] = {"ours": named} if named else {}
        if own is not None and (own.deleted if "deletes" in frame.context else _written(own, version)):
            more["echo"] = ECHO
        elif own is not None:
            if (text := stands.get((key[0], own.id))) is not None:
                more["stands"] = text
            if not own.home and self._otherwise:
                more["otherwise"] = self._otherwise
        return replace(frame, context={**frame.context, **more}) if more else frame

    def heard(self, record: int, frame: Frame, conversion: Conversion) -> Iterator[Heard]:
        """Yield under which id the peer spoke of what a record says."""
        kind, remote_id = _named(frame)[0]
        home = f"{kind}/{remote_id}" not in frame.context.get("ours", {})
        for entry in conversion.entries[:1]:
            if remote_id and entry.resource["resourceType"] == kind:
                yield Heard(kind, entry.resource["id"], remote_id, home, record)


def _written(own: Ours, version: str | None) -> bool:
    return version is not None and version in own.written


def _named(frame: Frame) -> tuple[Key, str | None]:
    """Return what the peer calls the frame's resource, and its version."""
    if "deletes" in frame.context:
        kind, _, ident = str(frame.context["deletes"]).partition("/")
        return (kind, ident), None
    try:
        head = _head.decode(frame.data)
    except (msgspec.DecodeError, RecursionError):
        return ("", ""), None
    return (head.type, head.id), head.meta.version


def _mentioned(frame: Frame) -> set[Key]:
    return {(kind.decode(), ident.decode()) for kind, ident in _REFERENCE.findall(frame.data)}
