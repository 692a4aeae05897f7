"""From what the ledger knows of a delivery to what its receipt says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from tasks.errors import BadRecord
from tasks.ledger.receipts import Facts
from tasks.model import BEGIN, Finding, Frame
from tasks.parse.port import Format
from tasks.receipt.model import Earlier, Receipt, Stopped, about_header, errors

WHOLE = "delivery"
"""Where something is wrong with all of a delivery."""


def of_ledger(facts: Facts, made_at: datetime) -> Receipt:
    """Return the receipt of a delivery that has ended."""
    row = facts.row
    return Receipt(
        feed=row["feed"],
        delivery=row["id"],
        name=row["name"],
        state=row["state"],
        sha256=row["sha256"] or "",
        size=row["size"] or 0,
        landed_at=iso(row["landed_at"]),
        made_at=iso(made_at) or "",
        received=int(row["received"]),
        accepted=int(row["published"]),
        refused=int(row["quarantined"]) + int(row["discarded"]),
        duplicate=int(row["duplicate"]),
        filtered=int(row["filtered"]),
        duplicate_of=_earlier(facts.duplicate_of),
        corrects=_earlier(facts.corrects),
        refused_records=tuple(_refused(*entry) for entry in facts.stopped if entry[2] != "duplicate"),
        duplicate_records=tuple(Stopped(entry[0], entry[1]) for entry in facts.stopped if entry[2] == "duplicate"),
    )


def frames(format_: Format, chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the frames of a file; where it cannot be read on, one that says so, as processing makes it."""
    number = 1
    left = iter(chunks)
    try:
        for frame in format_.split(left):
            number = frame.ordinal + 1
            yield frame
    except BadRecord as error:
        for _ in left:
            # to its end, so that size and sha256 are the whole file's
            pass
        yield Frame(number, WHOLE, b"", BEGIN, findings=error.findings)


def _refused(
    ordinal: int, place: str, _state: str, stage: str | None, findings: list[dict[str, str]] | None
) -> Stopped:
    if not findings:
        # an operator decided against it, and nothing was wrong with the record itself
        return Stopped(ordinal, place, (("discarded", WHOLE),))
    return stopped(ordinal, place, stage or "", [Finding(**finding) for finding in findings])  # type: ignore[arg-type]


def stopped(ordinal: int, place: str, stage: str, findings: list[Finding]) -> Stopped:
    wrong = errors(findings)
    return Stopped(ordinal, place, wrong, about_header(stage, wrong))


def _earlier(said: tuple[int, str, datetime] | None) -> Earlier | None:
    return said and Earlier(said[0], said[1], iso(said[2]) or "")


def iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="seconds") if moment else None
