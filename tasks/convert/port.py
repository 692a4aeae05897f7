"""The port of a converter: from a parsed record to FHIR resources.

Registered under `sluice.converters` by the same word as the format. A converter is compiled once from its mapping
files and then used for every record; it keeps no state between records.
"""

from __future__ import annotations

from typing import Protocol

from mappings.engine.model import Profile
from tasks.model import Conversion, Parsed


class Converter(Protocol):
    """Turns parsed records into entries."""

    version: str
    """Content hash of all maps, tables and functions that take part."""

    def __init__(self, profile: Profile) -> None:
        """Compile the maps; raises `ConfigError` with file, line and the nearest valid word for a mistake in one."""

    def convert(self, parsed: Parsed) -> Conversion:
        """Return what the record says; never raises for bad content, which becomes findings."""
