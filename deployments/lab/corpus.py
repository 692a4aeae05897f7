"""A corpus: files as a partner would drop them, and what a feed makes of each record in them.

The corpus is a folder; what stands in its folder `expected` is the snapshot: a file of NDJSON for every file of the
corpus, a line a record, to be read and committed beside the corpus.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mappings.engine.json import dumps, loads
from tasks import work
from tasks.errors import BadRecord, ConfigError
from tasks.feed import Feed, read
from tasks.model import Finding, Frame
from tasks.pipeline import Pipeline
from tasks.receipt.make import frames
from tasks.source.contents import Limits, unwrap

EXPECTED = "expected"
_CHUNK = 1 << 20

Case = dict[str, Any]
"""What became of one record: file, index, place, outcome, findings, event_time, to, resources, deleted."""


def files(corpus: Path) -> list[Path]:
    """Return the corpus's files in order; raises `ConfigError` where there are none."""
    found = [
        path
        for path in sorted(corpus.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") or part == EXPECTED for part in path.relative_to(corpus).parts)
    ]
    if not found:
        raise ConfigError(f"--corpus {corpus}: there is no file in it; put files as the partner drops them there")
    return found


def cases(feed: Feed, corpus: Path) -> Iterator[Case]:
    """Yield what becomes of every record of the corpus, through every stage before the gate."""
    pipeline = Pipeline(feed.profile, feed.format, feed.route)
    decrypt = work.decrypt(feed)
    for path in files(corpus):
        name = str(path.relative_to(corpus))
        try:
            for member, chunks in unwrap(path.name, _chunks(path), Limits(), decrypt):
                inside = name if member == path.name else f"{name}!{member}"
                yield from (_case(inside, pipeline, frame) for frame in frames(pipeline.format, chunks))
        except BadRecord as error:
            yield _stopped(name, 0, "delivery", "refused", error.findings)


def snapshot(corpus: Path) -> list[Case] | None:
    """Return the stored snapshot; None where there is none. Raises `ConfigError` for a line that cannot be read."""
    folder = corpus / EXPECTED
    if not folder.is_dir():
        return None
    found: list[Case] = []
    for path in sorted(folder.rglob("*.ndjson")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                found.append(loads(line))
            except ValueError:
                raise ConfigError(
                    f"{path}:{number}: this line is no JSON; write the snapshot anew (--update)"
                ) from None
    return found


def write_snapshot(corpus: Path, found: Iterable[Case]) -> int:
    """Put what was found in the snapshot's place; return how many records it holds."""
    lines: dict[str, list[bytes]] = {}
    for case in found:
        # what an archive holds is written beside what the archive itself would be
        lines.setdefault(case["file"].replace("!", "/"), []).append(dumps(case))
    folder = corpus / EXPECTED
    for old in folder.rglob("*.ndjson"):
        old.unlink()
    for name, own in lines.items():
        path = folder / f"{name}.ndjson"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\n".join(own) + b"\n")
    return sum(map(len, lines.values()))


def _case(name: str, pipeline: Pipeline, frame: Frame) -> Case:
    done = pipeline.run(frame)
    conversion = done.conversion
    if done.failed:
        return _stopped(name, frame.ordinal, frame.location, "quarantined", conversion.findings)
    dropped = done.decision.dropped
    entries = conversion.entries if dropped is None else []
    return {
        "file": name,
        "index": frame.ordinal,
        "place": frame.location,
        "outcome": "converted" if dropped is None else "filtered",
        "findings": _findings(conversion.findings),
        "event_time": conversion.event_time,
        "to": list(done.decision.to),
        "resources": [entry.resource for entry in entries if not entry.deleted],
        "deleted": [f"{entry.resource['resourceType']}/{entry.resource['id']}" for entry in entries if entry.deleted],
    }


def _stopped(name: str, index: int, place: str, outcome: str, found: Iterable[Finding]) -> Case:
    case: Case = {"file": name, "index": index, "place": place, "outcome": outcome, "findings": _findings(found)}
    return {**case, "event_time": None, "to": [], "resources": [], "deleted": []}


def _findings(found: Iterable[Finding]) -> list[str]:
    return sorted(f"{one.severity} {one.code} {one.location}" for one in found)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def main() -> None:
    """Print the cases of a feed file and a corpus as NDJSON: what the lab asks of a process with other maps."""
    feed, corpus = (Path(argument) for argument in sys.argv[1:3])
    for case in cases(read(feed), corpus):
        sys.stdout.buffer.write(dumps(case) + b"\n")


if __name__ == "__main__":
    main()
