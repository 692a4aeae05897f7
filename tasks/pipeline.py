"""The way of one record: parse → convert → route → validate; pure, the same for every format and every caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mappings.engine.json import digest, loads
from mappings.engine.model import Profile
from tasks import registry
from tasks.convert.contradictions import consistent
from tasks.convert.port import Converter
from tasks.errors import BadRecord
from tasks.failpoints import reached
from tasks.feed import Enrichment, Rule
from tasks.model import DIRECTORY, Conversion, Entry, Finding, Frame, Resource
from tasks.parse.port import Format
from tasks.route.enrich import Enricher
from tasks.route.rules import Columns, Decision, compile_rules
from tasks.validate import validator

ECHO = "echo"
"""The reason with which a record is dropped that Sluice itself wrote at its source."""
SERVER_META = frozenset({"versionId", "lastUpdated", "source"})
HELD = 5_000
"""Valid resources that are held, so that the same object is known again without a look at it."""

NOWHERE = Decision(())
TO_WAREHOUSE = (Rule(to=("warehouse",)),)


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one frame: how far it got, what it says, where it goes.

    - `stage` is the stage that found the worst: `parse`, `convert` or `validate`.
    - `conversion` holds all findings, those of framing and parsing too; its entries are empty where it failed.
    """

    stage: str
    conversion: Conversion
    decision: Decision = NOWHERE

    @property
    def failed(self) -> bool:
        """Whether an error among the findings quarantines the record."""
        return any(finding.severity == "error" for finding in self.conversion.findings)


class Pipeline:
    """Compiled once for a feed, then run for every frame."""

    def __init__(
        self,
        profile: Profile,
        format_name: str,
        rules: Sequence[Rule] = TO_WAREHOUSE,
        enrichments: Sequence[Enrichment] = (),
    ) -> None:
        self.profile = profile
        self.format: Format = registry.find("formats", format_name)(profile)
        self.converter: Converter = registry.find("converters", format_name)(profile)
        self.decide: Callable[[Any], Decision] = compile_rules(
            rules, self.format if isinstance(self.format, Columns) else None, format_name
        )
        self.mends = format_name == "hl7v2"
        self.enrich = Enricher(enrichments)
        self.check = validator(profile.fhir_version).check
        self._same: dict[int, Resource] = {}

    @property
    def version(self) -> str:
        """Content hash of all maps and lookup tables that take part; tables that changed are read again with it."""
        tables = self.enrich.reload()
        return digest([self.converter.version, tables]).hex()[:16] if tables else self.converter.version

    def run(self, frame: Frame) -> Done:
        """Return what became of a frame; never raises for bad content."""
        if "echo" in frame.context:
            return Done("parse", Conversion(), Decision((), frame.context["echo"]))
        if any(finding.severity == "error" for finding in frame.findings):
            return Done("parse", Conversion(findings=list(frame.findings)))
        try:
            parsed = self.format.parse(frame)
        except BadRecord as error:
            return Done("parse", Conversion(findings=[*frame.findings, *error.findings]))
        reached("parsed")
        conversion = self.converter.convert(parsed)
        reached("converted")
        if self.profile.merge == "replace":
            _whole(conversion)
        self.enrich(conversion)
        conversion.findings = [*frame.findings, *parsed.findings, *conversion.findings]
        stage = "convert"
        invalid = self._wrong(conversion)
        if invalid:
            stage = "validate"
            conversion.findings += [*self._of_another_version(conversion), *invalid]
        echo = _echo(frame, conversion)
        done = Done(stage, conversion, Decision((), echo) if echo else self.decide(parsed.content))
        if done.failed or not conversion.entries:
            conversion.entries = []
            if not done.failed:
                conversion.findings.append(Finding("nothing-to-convert", frame.location, "error"))
        return done

    def _wrong(self, conversion: Conversion) -> list[Finding]:
        """Return what is wrong with the entries; what a message contradicts itself in is left out of them first."""
        invalid: list[Finding] = []
        for number, entry in enumerate(conversion.entries):
            found = () if entry.deleted else self._invalid(entry)
            if found and self.mends:
                mended, notes = consistent(entry, found)
                conversion.findings += notes
                if notes:
                    conversion.entries[number] = mended
                    found = self.check(mended.resource)
            invalid += found
        return invalid

    def _of_another_version(self, conversion: Conversion) -> list[Finding]:
        """Say first of what is wrong here and right in FHIR's other version that it is of that one."""
        other = validator("4.0.1" if self.profile.fhir_version == "5.0.0" else "5.0.0").check
        return [
            Finding("fhir-other-version", entry.resource["resourceType"], "error")
            for entry in conversion.entries
            if not entry.deleted and self.check(entry.resource) and not other(entry.resource)
        ]

    def said(self, frame: Frame) -> Conversion:
        """Return what the maps make of a frame that failed, as far as they come; it goes nowhere."""
        try:
            return self.converter.convert(self.format.parse(frame))
        except BadRecord:
            return Conversion()

    def _invalid(self, entry: Entry) -> tuple[Finding, ...]:
        """Check a resource; one that the converter hands out again was valid before."""
        resource = entry.resource
        if not entry.shared:
            return self.check(resource)
        if self._same.get(id(resource)) is resource:
            return ()
        found = self.check(resource)
        if not found:
            if len(self._same) >= HELD:
                self._same.clear()
            self._same[id(resource)] = resource
        return found


def _echo(frame: Frame, conversion: Conversion) -> str | None:
    """Return why a record about a copy that Sluice wrote is left where it is; None where it is taken.

    `stands` is what the store says of the thing: what says the same is an echo; `otherwise` is the feed's policy.
    """
    context = frame.context
    if "stands" not in context or not conversion.entries or conversion.entries[0].deleted:
        return context.get("otherwise")
    same = _said(conversion.entries[0].resource) == _said(loads(context["stands"]))
    return ECHO if same else context.get("otherwise")


def _said(resource: Resource) -> Resource:
    """Return a resource without what every server that it passes sets anew."""
    meta = {name: value for name, value in resource.get("meta", {}).items() if name not in SERVER_META}
    return {name: value for name, value in resource.items() if name != "meta"} | ({"meta": meta} if meta else {})


def _whole(conversion: Conversion) -> None:
    """Let every entry stand as a whole: the newest message replaces what the one before it said."""
    for entry in conversion.entries:
        if entry.resource["resourceType"] not in DIRECTORY:
            entry.slots = None
