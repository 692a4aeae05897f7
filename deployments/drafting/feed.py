"""A first feed file from a sample; the source and the zone are for a person to say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from deployments.drafting.csv import GUESS
from mappings.engine.model import Profile
from tasks import registry
from tasks.errors import BadRecord
from tasks.validate import FhirVersion, validator

SAMPLE_RECORDS = 1_000
VERSIONS: tuple[FhirVersion, ...] = ("4.0.1", "5.0.0")
_TYPE = re.compile(rb'"resourceType"\s*:\s*"(\w+)"')
_CODE = re.compile(r"[\w^/.:+|#-]+( [\w/.-]+)?", re.ASCII)


def format_of(head: bytes) -> str:
    """Guess the format by the first bytes."""
    start = head.lstrip(b"\xef\xbb\xbf\x0b \t\r\n")
    if start[:3] in {b"MSH", b"FHS", b"BHS"}:
        return "hl7v2"
    if start[:1] == b"{":
        kind = _TYPE.search(start)
        return "fhir-bundle" if kind and kind[1] == b"Bundle" else "fhir-ndjson"
    return "csv"


def feed(format_name: str, partner: str, mapping: str, suffix: str, notes: Iterable[str], *, zone: str = "") -> str:
    """Return the text of a feed file; it is complete but for the zone, where the format needs one and none is said."""
    lines = [
        "# A first feed, drafted from a sample. What stands after `guess:` wants a look.",
        f"source: {GUESS} where the partner leaves files; or s3, directory, fhir-bulk, fhir-rest, mllp, http",
        "  kind: sftp",
        f"  connection: {partner} # host, user, key and pinned host key stand in the environment or a Prefect block",
        "  path: /outbound",
        f'  match: "*{suffix}"',
        "  ready: {stable_polls: 2}",
        "  after: archive",
        f"format: {format_name} {GUESS} by the first bytes",
    ]
    if mapping:
        lines.append(f"mapping: {mapping}")
    if zone:
        lines.append(f"timezone: {zone}")
    elif format_name in {"hl7v2", "csv"}:
        lines.append("# timezone: <IANA name> is missing: the zone of times that carry no offset, never guessed")
    lines += [*notes, "route: [{to: [warehouse]}]", f"schedule: {{every: 5m}} {GUESS} how often to look"]
    return "\n".join([*lines, ""])


def hl7_notes(chunks: Iterable[bytes]) -> list[str]:
    """Return comments on a sample of messages: structures, versions, facilities, authorities, offsets of times."""
    form = registry.find("formats", "hl7v2")(Profile("draft"))
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("types", "versions", "from", "charsets", "offsets")}
    patients: Counter[str] = Counter()
    local: Counter[str] = Counter()
    broken = 0
    for number, frame in enumerate(form.split(chunks)):
        if number == SAMPLE_RECORDS:
            break
        try:
            message = form.parse(frame).content
        except BadRecord:
            broken += 1
            continue
        msh = message.segments[0]
        counts["types"]["^".join(filter(None, (msh.value(9), msh.value(9, 1, 2))))] += 1
        counts["versions"][msh.value(12) or "none"] += 1
        counts["from"]["/".join(filter(None, (msh.value(3), msh.value(4)))) or "none"] += 1
        counts["charsets"][msh.value(18) or "none"] += 1
        counts["offsets"][_offset(msh.value(7))] += 1
        for segment in message.segments:
            if segment.name == "PID":
                for repetition in range(1, len(segment.field(3)) + 1):
                    kind, authority = segment.value(3, repetition, 5), segment.value(3, repetition, 4)
                    patients[f"{kind}@{authority}" if authority else kind] += 1
            elif segment.name.startswith("Z"):
                local[segment.name] += 1
    return [*_hl7_lines(counts, patients, local, broken)]


def _hl7_lines(
    counts: dict[str, Counter[str]], patients: Counter[str], local: Counter[str], broken: int
) -> Iterator[str]:
    words = {
        "types": "messages (MSH-9)",
        "versions": "versions (MSH-12)",
        "from": "senders (MSH-3/MSH-4)",
        "charsets": "character sets (MSH-18)",
        "offsets": "offsets of MSH-7",
    }
    for name, title in words.items():
        yield f"{GUESS} {title}: {_listed(counts[name])}"
    if local:
        yield f"{GUESS} local segments: {_listed(local)}"
    if broken:
        yield f"{GUESS} {broken} messages of the sample could not be read"
    known = [one for one, _ in patients.most_common() if re.fullmatch(r"[A-Z]{1,5}(@[\w.-]{1,40})?", one)]
    if known:
        yield f"identify: {{patient: [{', '.join(known)}]}} {GUESS} types and authorities of PID-3, most frequent first"


def _offset(text: str) -> str:
    at = max(text.rfind("+"), text.rfind("-"))
    return text[at:] if at >= 8 else "none"


def _listed(counts: Counter[str]) -> str:
    """Write codes with their counts; what does not look like a code could be anybody's name."""
    told = [(name if _CODE.fullmatch(name) else "(no code)", number) for name, number in counts.most_common(12)]
    return ", ".join(f"{name} ({number})" for name, number in told) or "none"


def fhir_notes(format_name: str, chunks: Iterable[bytes]) -> list[str]:
    """Return comments on a sample of resources: types and profiles, and the version of FHIR in which they are valid."""
    form = registry.find("formats", format_name)(Profile("draft"))
    types: Counter[str] = Counter()
    profiles: Counter[str] = Counter()
    valid: Counter[str] = Counter()
    broken = 0
    try:
        for frame in islice(form.split(chunks), SAMPLE_RECORDS):
            try:
                one = form.parse(frame).content
            except BadRecord:
                broken += 1
                continue
            types[str(one.get("resourceType"))] += 1
            profiles.update(_profiles(one))
            valid.update(
                version for version in VERSIONS if "deletes" in frame.context or not validator(version).check(one)
            )
    except BadRecord:
        broken += 1
    version = max(VERSIONS, key=lambda version: valid[version])
    told = ", ".join(f"{valid[one]} of {types.total()} are valid as {one}" for one in VERSIONS)
    notes = [f"fhir_version: {version} {GUESS} {told}", f"{GUESS} resources: {_listed(types)}"]
    if profiles:
        notes.append(f"{GUESS} profiles: {_listed(profiles)}")
    return [*notes, f"{GUESS} {broken} records cannot be read"] if broken else notes


def _profiles(resource: dict[str, Any]) -> Iterator[str]:
    meta = resource.get("meta")
    profiles = meta.get("profile") if isinstance(meta, dict) else None
    yield from map(str, profiles if isinstance(profiles, list) else ())


def chunks_of(path: Path, size: int = 1 << 18) -> Iterator[bytes]:
    """Yield a file's bytes."""
    with path.open("rb") as stream:
        while chunk := stream.read(size):
            yield chunk
