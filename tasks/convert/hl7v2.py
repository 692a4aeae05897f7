"""The converter of HL7 v2 messages: the maps under `mappings/v2`, a partner's overlay before them."""

from __future__ import annotations

from mappings.engine.compiled import Maps, compile_maps
from mappings.engine.errors import MappingError
from mappings.engine.model import Profile
from mappings.engine.source import files
from mappings.engine.times import zone
from mappings.engine.v2 import Memories, convert_message
from tasks.errors import ConfigError
from tasks.model import Conversion, Finding, Parsed


class Hl7v2Converter:
    """Turns messages into entries; `Parsed.content` fits `mappings.engine.protocols.Message`."""

    def __init__(self, profile: Profile) -> None:
        """Compile the maps; raises `ConfigError`, a line for every mistake in them, or for an unknown time zone."""
        if profile.fhir_version != "4.0.1":
            raise ConfigError(f"`fhir_version`: HL7 v2 becomes FHIR 4.0.1, not {profile.fhir_version}")
        self.profile = profile
        if profile.timezone is not None:
            _known(profile.timezone)
        try:
            self.maps: Maps = compile_maps(files(profile.partner))
        except MappingError as error:
            raise ConfigError(error.problems[0], error.problems) from None
        self.version = self.maps.version
        self._memories = Memories()

    def convert(self, parsed: Parsed) -> Conversion:
        """Return what the message says; a message that says nothing that can be converted has an error."""
        conversion = convert_message(self.maps, parsed.content, self.profile, self._memories)
        if not conversion.entries:
            conversion.findings.append(Finding("nothing-to-convert", "MSH", "error"))
        return conversion


def _known(name: str) -> None:
    try:
        zone(name)
    except (KeyError, ValueError, OSError):
        raise ConfigError(f"timezone: no time zone {name!r}; write an IANA name such as America/New_York") from None
