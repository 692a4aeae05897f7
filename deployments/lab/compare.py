"""Two runs over one corpus, compared record by record, resource by resource, element by element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from deployments.lab.corpus import Case
from tasks.replay.difference import difference, pattern

Values = tuple[Any, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: where it is, what it is, and how; `values` are before and after, for who may see them.

    - `resource` is `Type/id`, or empty where it is the record itself (its outcome, a finding, where it goes).
    - `change` is `added`, `removed` or `changed`.
    """

    file: str
    index: int
    place: str
    resource: str
    path: str
    change: str
    values: Values = field(default=(None, None), compare=False)

    @property
    def element(self) -> tuple[str, str, str]:
        """Type, path without the numbers of list items, and change: by which differences are counted."""
        return self.resource.partition("/")[0] or "(record)", pattern(self.path), self.change


def compare(before: Iterable[Case], after: Iterable[Case]) -> list[Difference]:
    """Return how `after` differs from `before`, in the order of the corpus."""
    old, new = ({(case["file"], case["index"]): case for case in cases} for cases in (before, after))
    found: list[Difference] = []
    for key in sorted({*old, *new}):
        found += _record(old.get(key), new.get(key))
    return found


def by_element(found: Sequence[Difference]) -> list[dict[str, Any]]:
    """Count differences by type, path and change, most first; with the number of records that they are in."""
    counts: Counter[tuple[str, str, str]] = Counter(one.element for one in found)
    records: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
    for one in found:
        records.setdefault(one.element, set()).add((one.file, one.index))
    return [
        {
            "type": kind,
            "path": path,
            "change": change,
            "differences": count,
            "records": len(records[kind, path, change]),
        }
        for (kind, path, change), count in counts.most_common()
    ]


def _record(old: Case | None, new: Case | None) -> Iterator[Difference]:
    either = new or old
    assert either is not None  # noqa: S101
    at = (either["file"], either["index"], either["place"])
    if old is None or new is None:
        yield Difference(*at, "", "record", "added" if old is None else "removed")
        return
    for name in ("outcome", "event_time"):
        if old[name] != new[name]:
            yield Difference(*at, "", name, "changed", (old[name], new[name]))
    for name in ("findings", "to", "deleted"):
        # the words of a finding are a code and a place: they are the path, there is no value in them
        was, now = Counter[str](old[name]), Counter[str](new[name])
        yield from (Difference(*at, "", f"{name}: {word}", "removed") for word in (was - now).elements())
        yield from (Difference(*at, "", f"{name}: {word}", "added") for word in (now - was).elements())
    yield from _resources(at, old["resources"], new["resources"])


def _resources(at: tuple[str, int, str], old: list[Any], new: list[Any]) -> Iterator[Difference]:
    before, after = ({f"{one['resourceType']}/{one['id']}": one for one in some} for some in (old, new))
    for name in [*before, *(name for name in after if name not in before)]:
        if name not in after or name not in before:
            change = "removed" if name in before else "added"
            yield Difference(*at, name, "", change, (before.get(name), after.get(name)))
            continue
        for path, change in difference(before[name], after[name]):
            yield Difference(*at, name, path, change, (value_at(before[name], path), value_at(after[name], path)))


def value_at(resource: Any, path: str) -> Any:
    """Return what stands at a path such as `name[0].family`; None where nothing does."""
    for part in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(resource, list):
            resource = resource[int(part)] if int(part) < len(resource) else None
        elif isinstance(resource, dict):
            resource = resource.get(part)
    return resource
