"""`sluice convert`: files to FHIR without loading anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mappings.engine.model import Profile
    from tasks.model import Frame
    from tasks.pipeline import Pipeline

_CHUNK = 1 << 20
_HL7 = (b"MSH", b"FHS", b"BHS", b"\x0bMSH", b"\x0b")


def convert(
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH…|-", help="Files, folders, or - for standard input.")
    ] = None,
    format_name: Annotated[
        str, typer.Option("--format", help="hl7v2, csv, fhir-ndjson, fhir-bundle; seen from the content if not given.")
    ] = "",
    mapping: Annotated[str, typer.Option(help="The mapping: v2, or a file's stem under mappings/csv.")] = "",
    partner: Annotated[str, typer.Option(help="Whose identifiers these are; also the name of the overlay.")] = "local",
    timezone: Annotated[str, typer.Option(help="The zone of times without an offset, e.g. America/New_York.")] = "",
    fhir_version: Annotated[
        str, typer.Option("--fhir-version", help="The version of FHIR that comes in and goes out: 4.0.1 or 5.0.0.")
    ] = "4.0.1",
    coverage: Annotated[bool, typer.Option(help="Say instead how much of HL7's v2-to-FHIR guide is mapped.")] = False,
) -> None:
    """Convert files and print one line of JSON a record: source, index, bundle, findings.

    `bundle` is null where a record has an error; then the exit code is 1. Of a folder every file below it is read;
    what is neither HL7 v2 nor FHIR is named on standard error and left out.
    """
    if coverage:
        from tasks.convert.coverage import report

        print(report())
        return
    if not paths:
        raise typer.BadParameter("which file? give a path, or - for standard input")
    profile = _profile(mapping, partner, timezone, fhir_version)
    failed = False
    for path, found in _files(paths):
        with _open(path) as stream:
            head = stream.read(_CHUNK)
            name = format_name or guess(head)
            if found and name == "csv" and not mapping:
                print(f"{path}: left out: neither HL7 v2 nor FHIR; for CSV say --mapping", file=sys.stderr)
                continue
            failed = _file(path, head, stream, _pipeline(path, name, profile)) or failed
    if failed:
        raise typer.Exit(1)


def _files(paths: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield each file, and whether it was found in a folder; there hidden files are not looked at."""
    from tasks.errors import ConfigError

    for path in paths:
        folder = Path(path)
        if not folder.is_dir():
            yield path, False
            continue
        files = [file for file in sorted(folder.rglob("*")) if file.is_file() and _shown(file.relative_to(folder))]
        if not files:
            raise ConfigError(f"{path}: no file is in this folder; give the path of one that holds some")
        yield from ((str(file), True) for file in files)


def _shown(path: Path) -> bool:
    return not any(part.startswith(".") for part in path.parts)


def _open(path: str) -> IO[bytes]:
    from tasks.errors import ConfigError

    if path == "-":
        return sys.stdin.buffer
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a file that can be read") from None


def _profile(mapping: str, partner: str, timezone: str, fhir_version: str) -> Profile:
    from mappings.engine.model import Profile

    if fhir_version not in {"4.0.1", "5.0.0"}:
        raise typer.BadParameter("--fhir-version is 4.0.1 (R4) or 5.0.0 (R5)")
    return Profile(partner, mapping, timezone or None, fhir_version=fhir_version)


def _file(path: str, head: bytes, stream: IO[bytes], pipeline: Pipeline) -> bool:
    from mappings.engine.json import dumps
    from tasks.errors import BadRecord

    failed = False
    try:
        for frame in pipeline.format.split(_chunks(head, stream)):
            line, good = _line(path, frame, pipeline)
            failed = failed or not good
            sys.stdout.buffer.write(dumps(line) + b"\n")
    except BadRecord as error:
        findings = [_finding(finding) for finding in error.findings]
        sys.stdout.buffer.write(dumps({"source": path, "index": 0, "bundle": None, "findings": findings}) + b"\n")
        failed = True
    sys.stdout.buffer.flush()
    return failed


def _chunks(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    while head:
        yield head
        head = stream.read(_CHUNK)


def _pipeline(path: str, name: str, profile: Profile) -> Pipeline:
    from tasks.errors import ConfigError
    from tasks.pipeline import Pipeline

    if name == "csv" and not profile.mapping:
        raise ConfigError(f"{path}: looks like CSV: say with --mapping which mapping file is meant (mappings/csv)")
    return Pipeline(replace(profile, mapping=profile.mapping or "v2"), name)


def guess(head: bytes) -> str:
    """Return the format that a file's first bytes look like."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith(_HL7) or text[:4].lstrip(b"\x0b").startswith((b"MSH", b"FHS", b"BHS")):
        return "hl7v2"
    if text.startswith(b"["):
        return "fhir-ndjson"
    if text.startswith(b"{"):
        first = text.split(b"\n", 1)[0].strip()
        whole = first.endswith(b"}") and first.count(b"{") == first.count(b"}")
        is_bundle = b'"Bundle"' in (first if whole else text[:4096])
        return "fhir-bundle" if is_bundle else "fhir-ndjson"
    return "csv"


def _line(path: str, frame: Frame, pipeline: Pipeline) -> tuple[dict[str, Any], bool]:
    from tasks.convert.bundle import bundle

    done = pipeline.run(frame)
    good = not done.failed and bool(done.conversion.entries)
    line = {
        "source": path,
        "index": frame.ordinal,
        "bundle": bundle(done.conversion) if good else None,
        "findings": [_finding(finding) for finding in done.conversion.findings],
    }
    return line, good


def _finding(finding: Any) -> dict[str, str]:
    return {"code": finding.code, "location": finding.location, "severity": finding.severity}
