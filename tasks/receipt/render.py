"""A receipt as JSON and as a text to read; the same receipt always gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from tasks.receipt.model import Earlier, Receipt, Stopped

SHOWN = 1000
"""Lines of a text that list records; the JSON lists all of them."""
NAME_BYTES = 180
"""Bytes of a delivery's own name in its receipt's name: most file systems allow 255 for all of it."""


def base_name(receipt: Receipt) -> str:
    """Return what the names of a delivery's receipts begin with: its own name, and its number, which tells it apart."""
    last = receipt.name.rpartition("/")[2]
    kept = last.encode("utf-8", "replace")[:NAME_BYTES].decode("utf-8", "ignore")
    return f"{kept}.{receipt.delivery}"


def as_json(receipt: Receipt) -> bytes:
    """Return the receipt as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n"


def as_text(receipt: Receipt) -> bytes:
    """Return the receipt as a text in UTF-8."""
    return ("\n".join(_lines(receipt)) + "\n").encode("utf-8", "replace")


def _lines(receipt: Receipt) -> Iterator[str]:
    number = f", delivery {receipt.delivery}" if receipt.delivery is not None else ""
    yield f"{_one_line(receipt.name)} ({receipt.feed}{number})"
    yield f"{receipt.size} bytes, sha256 {receipt.sha256}"
    if receipt.landed_at:
        yield f"landed {receipt.landed_at}, receipt made {receipt.made_at}"
    if receipt.corrects:
        yield f"It corrects {_earlier(receipt.corrects)}."
    if receipt.duplicate_of:
        yield f"The same bytes were taken before as {_earlier(receipt.duplicate_of)}: nothing was taken twice."
    yield ""
    if receipt.state == "refused":
        yield "The file was refused as a whole."
    yield (
        f"{receipt.received} received: {receipt.accepted} accepted, {receipt.refused} refused, "
        f"{receipt.duplicate} duplicate, {receipt.filtered} not used by this feed"
    )
    again = " (as of the first delivery)" if receipt.duplicate_of else ""
    yield from _records(f"Refused{again}:", receipt.refused_records)
    yield from _records("Duplicates of what was taken before:", receipt.duplicate_records)


def _records(title: str, records: Sequence[Stopped]) -> Iterator[str]:
    if not records:
        return
    yield ""
    yield title
    for record in records[:SHOWN]:
        why = "; ".join(f"{code} at {place}" for code, place in record.findings)
        yield f"  {record.place}{': ' + why if why else ''}"
    if len(records) > SHOWN:
        yield f"  and {len(records) - SHOWN} more: the JSON beside this file lists all of them"


def _earlier(earlier: Earlier) -> str:
    return f"delivery {earlier.delivery} ({_one_line(earlier.name)}, landed {earlier.landed_at})"


def _one_line(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)
