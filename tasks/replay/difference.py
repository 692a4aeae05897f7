"""The difference of two resources by element, without a value of either."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

MISSING = object()


def difference(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (element path, `added`, `removed` or `changed`), as ("name[0].family", "changed")."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _part(before.get(name, MISSING), after.get(name, MISSING), f"{path}.{name}" if path else name)
    elif isinstance(before, list) and isinstance(after, list):
        for number, (old, new) in enumerate(zip_longest(before, after, fillvalue=MISSING)):
            yield from _part(old, new, f"{path}[{number}]")
    # an integer is read as one and converted as a decimal: what counts are its digits
    elif before != after or str(before) != str(after):
        yield path, "changed"


def pattern(path: str) -> str:
    """Return a path without the numbers of its list items."""
    return "".join(part.partition("]")[2] if number else part for number, part in enumerate(path.split("[")))


def _part(before: Any, after: Any, path: str) -> Iterator[tuple[str, str]]:
    if before is MISSING:
        yield path, "added"
    elif after is MISSING:
        yield path, "removed"
    else:
        yield from difference(before, after, path)
