"""The port of a format: from a delivery's bytes to frames, and from a frame to what it holds.

Registered under `sluice.formats` by the word that a feed file writes as `format`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from mappings.engine.model import Profile
from tasks.model import BEGIN, Frame, Parsed, Position


class Format(Protocol):
    """Cuts bytes into frames and reads a frame; built once per feed, keeps no state between calls."""

    def __init__(self, profile: Profile) -> None:
        """Take what the feed and its mapping declare of the format; raises `ConfigError` for a mistake there."""

    def split(self, chunks: Iterable[bytes], start: Position = BEGIN) -> Iterator[Frame]:
        """Yield the frames of a delivery whose bytes from `start.offset` on are `chunks`.

        Never holds the whole delivery. Raises `BadRecord` where the delivery as a whole cannot be read (a CSV
        without its declared columns, nothing that looks like HL7 v2); one broken record is a frame with an error.
        """

    def parse(self, frame: Frame) -> Parsed:
        """Return what the frame holds; raises `BadRecord` where it cannot be read."""
