"""Messages with a marker of its own in every (sub)component of every field, for whatever structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from tasks.parse.v2_dictionary import dictionary
from tests.v2_messages import message, seg

CODES = {
    ("PV1", 2): "I", ("OBX", 2): "ST", ("OBX", 11): "F", ("OBR", 25): "F", ("ORC", 1): "NW", ("ORC", 5): "",
    ("TXA", 17): "AU", ("TXA", 19): "AV", ("PID", 8): "F",
}  # fmt: skip
"""What decides how the rest of a message is read is a known code."""
_DATES = {"DT", "DTM", "TS", "TSC"}


class Marked:
    """A message of `structure` and what was planted: (`PID-5.1`, the marker as it should come out).

    `trimmings` follow the markers of texts in turn: escape sequences, say.
    """

    def __init__(self, structure: str, version: str, repetitions: int = 1, trimmings: Sequence[str] = ("",)) -> None:
        self.words = dictionary(version)
        self.trimmings = trimmings
        self.repetitions = repetitions
        self.marks: list[tuple[str, str]] = []
        counts: Counter[str] = Counter()
        segments = []
        for name in _flat(self.words.structure(structure)):
            if self.words.has(name) and name not in {"MSH", "DSC"}:
                counts[name] += 1
                segments.append(self._segment(name, counts[name]))
        kind = structure.replace("ADT_A39", "ADT_A40").replace("_", "^")
        self.text = message(f"{kind}^{structure}", *segments).replace("|2.5.1", f"|{version}", 1)

    def _segment(self, name: str, ordinal: int) -> str:
        place = name if ordinal == 1 else f"{name}[{ordinal}]"
        fields = {}
        for number in range(1, self.words.fields(name) + 1):
            datatype = self.words.datatype(name, number)
            if (name, number) in CODES:
                fields[number] = CODES[name, number]
            elif datatype:
                count = self.repetitions if self.words.repeats(name, number) else 1
                fields[number] = "~".join(self._field(datatype, f"{place}-{number}") for _ in range(count))
        return seg(name, fields)

    def _field(self, datatype: str, place: str) -> str:
        count = self.words.components(datatype)
        if not count or datatype in _DATES:
            return self._value(datatype, place)
        return "^".join(
            self._component(self.words.component(datatype, at), f"{place}.{at}") for at in range(1, count + 1)
        )

    def _component(self, datatype: str, place: str) -> str:
        count = self.words.components(datatype)
        if not count or datatype in _DATES:
            return self._value(datatype, place)
        inner = [self.words.component(datatype, at) for at in range(1, count + 1)]
        return "&".join(self._value(kind, f"{place}.{at}") for at, kind in enumerate(inner, 1))

    def _value(self, datatype: str, place: str) -> str:
        number = len(self.marks) + 1
        if datatype in _DATES:
            day = date(1930, 1, 1) + timedelta(days=number)
            self.marks.append((place, day.isoformat()))
            return day.strftime("%Y%m%d")
        if datatype == "TM":
            self.marks.append((place, f"{number % 24:02d}:{number // 24 % 60:02d}"))
            return self.marks[-1][1].replace(":", "")
        mark = str(7_000_000 + number) if datatype in {"NM", "SI"} else f"M{number}x"
        self.marks.append((place, mark))
        return mark if datatype in {"NM", "SI"} else f"{mark}{self.trimmings[number % len(self.trimmings)]}"


class Overfull(Marked):
    """A message in which every field has a component too many, and every component a subcomponent too many."""

    def _field(self, datatype: str, place: str) -> str:
        parts = super()._field(datatype, place).split("^")
        wide = [f"{place}.{at}.{part.count('&') + 2}" for at, part in enumerate(parts, 1)]
        full = [f"{part}&{self._more(more)}" for part, more in zip(parts, wide, strict=True)]
        return "^".join([*full, self._more(f"{place}.{len(parts) + 1}")])

    def _more(self, place: str) -> str:
        mark = f"M{len(self.marks) + 1}x"
        self.marks.append((place, mark))
        return mark


class Repeated(Marked):
    """A message in which every field has a second repetition, whether it may repeat or not."""

    def _field(self, datatype: str, place: str) -> str:
        return f"{super()._field(datatype, place)}~{super()._field(datatype, place)}"


def _flat(items: Any) -> Iterator[str]:
    for item in items:
        if len(item) > 3:
            yield from _flat(item[3])
        else:
            yield from item[0].split("|")[:1]
