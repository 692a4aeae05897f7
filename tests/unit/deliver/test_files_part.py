"""Files as they are written: a record at a time, divided by records and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tasks.core_views import core_views
from tasks.deliver import files_rows
from tasks.deliver.files import Rotate
from tasks.deliver.files_part import Part, chunks, parts, sha256


def read(part: Part) -> bytes:
    return b"".join(chunks(part.file))


def test_a_file_is_full_before_a_record_that_would_pass_its_limits() -> None:
    limits = Rotate.model_construct(records=3, bytes=10)
    records = [b"aaaa", b"bbbb", b"cc", b"d" * 20, b"e", b"f", b"g", b"h"]
    made = parts(partial(Part, "x", "y"), records, limits, tail=lambda count: b"|%d" % count)
    assert [read(part) for part in made] == [b"aaaabbbbcc|3", b"d" * 20 + b"|1", b"efg|3", b"h|1"]


def test_no_more_than_the_record_at_hand_is_drawn_while_a_file_is_written() -> None:
    written: list[int] = []

    class Watched(Part):
        def add(self, data: bytes, records: int = 1) -> None:
            super().add(data, records)
            written.append(records)

    def records() -> Iterator[bytes]:
        for number in range(50):
            assert sum(written) >= number - 1, "what was drawn before is in the file"
            yield b"x" * 100

    [part] = [(one.records, sha256(one.file)) for one in parts(lambda: Watched("x", "y"), records(), Rotate())]
    assert part[0] == 50


def test_a_file_is_given_up_when_nobody_goes_on_reading() -> None:
    made = parts(partial(Part, "x", "y"), [b"a", b"b"], Rotate(records=1))
    part = next(made)
    made.close()  # type: ignore[attr-defined]
    assert part.file.closed


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_rows_are_divided_and_none_is_lost(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr(files_rows, "_GROUP", 2)
    view = core_views()["patient"]
    found = ({"id": f"p{number}"} for number in range(12))
    ids: list[Any] = []
    sizes = []
    for part in files_rows.rows(view, found, kind, Rotate(records=5)):
        sizes.append(part.records)
        if kind == "parquet":
            ids += parquet.read_table(part.file).column("id").to_pylist()
        else:
            ids += [line for line in read(part).split() if b"p" in line and b"birth" not in line]
    assert (sizes, len(set(ids))) == ([5, 5, 2], 12)


@pytest.mark.parametrize(("kind", "files"), [("csv", 1), ("parquet", 1), ("ndjson", 0)])
def test_of_a_table_without_a_row_there_is_a_file_that_has_its_columns(kind: str, files: int) -> None:
    made = [(one.records, len(read(one))) for one in files_rows.rows(core_views()["patient"], iter(()), kind, Rotate())]
    assert len(made) == files
    assert all(records == 0 and size > 20 for records, size in made)
