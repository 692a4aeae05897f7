"""Writes what was drafted; a file that is there already is never overwritten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deployments.drafting import columns, csv
from deployments.drafting.feed import chunks_of, feed, fhir_notes, format_of, hl7_notes
from mappings.engine.source import ROOT
from tasks.errors import ConfigError
from tasks.feed import folders

SAMPLE_BYTES = 1 << 20


def draft(file: Path, name: str, to: Path | None, zone: str = "") -> list[Path]:
    """Write a feed file, and for a CSV sample a mapping file; return their paths.

    Without a `zone` the feed of a format whose times carry no offset waits for one: nobody guesses it.

    Raises `ConfigError` where the sample cannot be read, the name is none or a file is there already.
    """
    head = _head(file)
    kind = format_of(head)
    name = name or f"{_word(file.stem)}.{'rows' if kind == 'csv' else kind.split('-')[0]}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*\.[a-z0-9][a-z0-9-]*", name):
        raise ConfigError(f"--feed {name}: a feed's name is <partner>.<feed> in lower case")
    texts = dict(_texts(file, head, kind, name, to, zone=zone))
    taken = [path for path in texts if path.exists()]
    if taken:
        raise ConfigError(f"{', '.join(map(str, taken))} is there already and is not overwritten; name another --feed")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    return list(texts)


def _head(file: Path) -> bytes:
    if file.is_dir():
        raise ConfigError(f"{file} is a folder; name one file in it")
    try:
        with file.open("rb") as stream:
            head = stream.read(SAMPLE_BYTES)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    if not head.strip():
        raise ConfigError(f"{file} is empty; a draft needs some records")
    return head


def _texts(file: Path, head: bytes, kind: str, name: str, to: Path | None, *, zone: str) -> Iterator[tuple[Path, str]]:
    partner = name.partition(".")[0]
    mapping, notes = "", []
    if kind == "csv":
        try:
            sample = columns.look(head)
        except ValueError as error:
            raise ConfigError(f"{file}: {error}") from None
        place = to or ROOT / "csv"
        path = place / f"{name.replace('.', '-')}.yaml"
        mapping = str(path.resolve()) if to else path.stem
        yield path, csv.mapping(sample, file.name)
    elif kind == "hl7v2":
        mapping, notes = "v2", hl7_notes(chunks_of(file))
    else:
        notes = fhir_notes(kind, chunks_of(file))
    yield (to or folders()[0]) / f"{name}.yaml", feed(kind, partner, mapping, file.suffix, notes, zone=zone)


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "partner"
