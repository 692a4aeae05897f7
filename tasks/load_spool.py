"""What is to be loaded, kept on disk by type until its turn comes: 12 bytes of memory a resource."""

from __future__ import annotations

import struct
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from mappings.engine import json
from tasks.deliver.fhir_conditional import conditional_types
from tasks.deliver.fhir_order import cycles, lane, rank, references
from tasks.deliver.port import Item
from tasks.load_input import Loadable

_HEAD = struct.Struct("<BI")
_UNCUT = 10
"""How many times the usual size a part may have that no patient's border divides."""


@dataclass(slots=True)
class _Shelf:
    """The things of one type: where each begins in the file, and a number that its patient's things share."""

    file: IO[bytes]
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lanes: array[int] = field(default_factory=lambda: array("I"))
    refers_to: set[str] = field(default_factory=set)


class Spool:
    """Takes things in any order and gives them back in an order that a server can take.

    Types come after the types that they refer to. Types that refer to each other come together, divided by patient,
    so that a part holds what refers to each other; deletions come last.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sluice-load-")
        self._shelves: dict[str, _Shelf] = {}
        self._deleted: dict[str, list[str]] = {}
        self.count = 0

    def add(self, thing: Loadable) -> None:
        """Keep one thing."""
        self.count += 1
        if thing.resource is None:
            self._deleted.setdefault(thing.resource_type, []).append(thing.id)
            return
        body = json.dumps(thing.resource)
        shelf = self._shelf(thing.resource_type)
        owner = lane(thing.resource, f"{thing.resource_type}/{thing.id}")
        shelf.offsets.append(shelf.file.tell())
        # What is no patient's stays together: hierarchies of organizations and locations cross no border.
        shelf.lanes.append(zlib.crc32(owner.encode()) if owner.startswith("Patient/") else 0)
        shelf.refers_to.update(key.partition("/")[0] for key in references(body))
        shelf.refers_to.update(conditional_types(body))
        ident = thing.id.encode()
        shelf.file.write(_HEAD.pack(min(len(ident), 255), len(body)) + ident[:255] + body)

    def parts(self, most: int) -> Iterator[tuple[list[Item], bool]]:
        """Yield parts of at most `most` things in order, and whether a part may hold references to a later one.

        What is refused in such a part deserves a second try.
        """
        for group in self._groups():
            if len(group) == 1 and group[0] not in self._shelves[group[0]].refers_to:
                yield from ((part, False) for part in _sliced(self._of_type(group[0]), most))
            else:
                yield from self._tangled(group, most)
        for name in sorted(self._deleted, key=rank, reverse=True):
            yield from ((part, False) for part in _sliced((Item(name, i, 0, None) for i in self._deleted[name]), most))

    def close(self) -> None:
        """Remove the files."""
        for shelf in self._shelves.values():
            shelf.file.close()
        self._folder.cleanup()

    def _shelf(self, name: str) -> _Shelf:
        found = self._shelves.get(name)
        if found is None:
            # The name comes from outside and is no file's name.
            file = open(f"{self._folder.name}/{len(self._shelves)}", "w+b")  # noqa: PTH123, SIM115
            found = self._shelves[name] = _Shelf(file)
        return found

    def _groups(self) -> list[tuple[str, ...]]:
        names = sorted(self._shelves, key=lambda name: (rank(name), name))
        edges = {
            name: sorted(self._shelves[name].refers_to & self._shelves.keys() - {name}, key=rank) for name in names
        }
        return [tuple(sorted(group, key=rank)) for group in cycles(edges)]

    def _of_type(self, name: str) -> Iterator[Item]:
        shelf = self._shelves[name]
        return (_read(shelf.file, name, offset) for offset in shelf.offsets)

    def _tangled(self, group: tuple[str, ...], most: int) -> Iterator[tuple[list[Item], bool]]:
        """Yield types that refer to each other, cut where a patient's things end."""
        total = sum(len(self._shelves[name].offsets) for name in group)
        divisions = -(-total // most)
        for division in range(divisions):
            places = sorted(
                (owner, name, offset)
                for name in group
                for owner, offset in zip(self._shelves[name].lanes, self._shelves[name].offsets, strict=True)
                if owner % divisions == division
            )
            part: list[Item] = []
            before = None
            for owner, name, offset in places:
                if (len(part) >= most and owner != before) or len(part) >= _UNCUT * most:
                    yield part, True
                    part = []
                part.append(_read(self._shelves[name].file, name, offset))
                before = owner
            if part:
                yield part, total > most


def _read(file: IO[bytes], name: str, offset: int) -> Item:
    if file.tell() != offset:
        file.seek(offset)
    ident, body = _HEAD.unpack(file.read(_HEAD.size))
    data = file.read(ident + body)
    resource: dict[str, Any] = json.loads(data[ident:])
    return Item(name, data[:ident].decode(), 0, resource)


def _sliced(things: Iterator[Item], most: int) -> Iterator[list[Item]]:
    part: list[Item] = []
    for thing in things:
        part.append(thing)
        if len(part) >= most:
            yield part
            part = []
    if part:
        yield part
