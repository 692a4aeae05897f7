"""Batches of HL7 v2 messages: FHS, BHS, messages as they came, BTS and FTS with their counts (chapter 2, 2.10.3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.deliver.files_rows import Limits, Part
from tasks.deliver.port import Item, Outcome
from tasks.model import Finding

_NO_BATCH = (b"FHS", b"BHS", b"BTS", b"FTS")


def parts(items: Sequence[Item], refused: list[Outcome], limits: Limits) -> Iterator[Part]:
    """Yield batch files of messages; what is no message goes into `refused`."""
    some: list[bytes] = []
    size = 0
    for item in items:
        found = message(item)
        if found is None:
            refused.append(Outcome(item, "refused", "not-sent", Finding("not-hl7v2", "record", "error")))
            continue
        if some and (len(some) >= limits.records or size + len(found) > limits.bytes):
            yield _file(some)
            some, size = [], 0
        some.append(found)
        size += len(found)
    if some:
        yield _file(some)


def message(item: Item) -> bytes | None:
    """Return a message's own bytes with carriage returns between its segments, as in the standard."""
    lines = (item.content or b"").strip(b"\x0b\x1c\r\n").replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")
    kept = [line for line in lines if line and not line.startswith(_NO_BATCH)]
    return b"\r".join(kept) + b"\r" if kept and kept[0].startswith(b"MSH") else None


def _file(messages: Sequence[bytes]) -> Part:
    head = b"FHS|^~\\&|SLUICE\rBHS|^~\\&|SLUICE\r"
    data = head + b"".join(messages) + b"BTS|%d\rFTS|1\r" % len(messages)
    return Part("messages", "hl7", data, len(messages))
