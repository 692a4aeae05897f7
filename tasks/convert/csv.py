"""The converter of CSV rows: what the feed's mapping file says of them."""

from __future__ import annotations

from mappings.engine.csv_compile import compile_csv
from mappings.engine.csv_file import load
from mappings.engine.errors import MappingError
from mappings.engine.model import Profile
from tasks.errors import ConfigError
from tasks.model import Conversion, Finding, Parsed, UnmappedCode


class CsvConverter:
    """Turns a record's rows into entries; `Parsed.content` holds rows of cells in the order of the declared columns."""

    def __init__(self, profile: Profile) -> None:
        """Compile the mapping file that `profile.mapping` names; raises `ConfigError`, a line for every mistake."""
        if profile.fhir_version != "4.0.1":
            raise ConfigError(f"mapping {profile.mapping}: a CSV mapping makes FHIR 4.0.1, not {profile.fhir_version}")
        try:
            mapping = load(profile.mapping, profile.partner)
            self._convert = compile_csv(mapping, profile)
        except MappingError as error:
            raise ConfigError(error.problems[0], error.problems) from None
        self.version = mapping.version

    def convert(self, parsed: Parsed) -> Conversion:
        """Return what the rows say; with an error among the findings there are no entries."""
        findings: list[Finding] = []
        unmapped: list[UnmappedCode] = []
        entries, when = self._convert(parsed.content, findings, unmapped)
        return Conversion(entries, findings, unmapped, when, mapping_version=self.version)
