"""Batches of HL7 v2 messages: FHS, BHS, messages, BTS and FTS with their counts (chapter 2, 2.10.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from tasks.deliver import files_part
from tasks.deliver.files_part import Limits, Part
from tasks.deliver.port import Item, Outcome
from tasks.model import Finding

_NO_BATCH = (b"FHS", b"BHS", b"BTS", b"FTS")


def parts(messages: Iterable[bytes], limits: Limits, ends: Sequence[str] = ("SLUICE",)) -> Iterator[Part]:
    """Yield batch files of messages; `ends` stand in FHS-3 to FHS-6 and BHS-3 to BHS-6, escaped."""
    head = "".join("|".join([name, "^~\\&", *ends]).rstrip("|") + "\r" for name in ("FHS", "BHS")).encode()
    make = partial(Part, "messages", "hl7")
    return files_part.parts(make, messages, limits, head=head, tail=lambda count: b"BTS|%d\rFTS|1\r" % count)


def passed(items: Sequence[Item], others: list[Outcome]) -> Iterator[bytes]:
    """Yield messages as they came; what is no message goes into `others` as refused."""
    for item in items:
        found = message(item)
        if found is None:
            others.append(Outcome(item, "refused", "not-sent", Finding("not-hl7v2", "record", "error")))
        else:
            yield found


def message(item: Item) -> bytes | None:
    """Return a message's own bytes with carriage returns between its segments, as in the standard."""
    lines = (item.content or b"").strip(b"\x0b\x1c\r\n").replace(b"\r\n", b"\r").replace(b"\n", b"\r").split(b"\r")
    kept = [line for line in lines if line and not line.startswith(_NO_BATCH)]
    return b"\r".join(kept) + b"\r" if kept and kept[0].startswith(b"MSH") else None
