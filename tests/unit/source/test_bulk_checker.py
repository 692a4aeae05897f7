"""Large files of an export are checked by a helper process while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.source.bulk_checker import Checker, Follow
from tasks.source.bulk_lines import check_file

LINES = b'{"resourceType":"Patient","id":"a"}\n{"resourceType":"Group"}\n\n{"resourceType":"Pat\n' * 50


@pytest.fixture
def checker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checker]:
    monkeypatch.setattr("tasks.source.bulk_checker.LARGE", 1000)
    monkeypatch.setattr("tasks.source.bulk_checker._STEP", 700)
    made = Checker(helper=True)
    yield made
    made.close()


def written(follow: Follow, data: bytes = LINES) -> Follow:
    """Write in pieces, as a download does."""
    size = 0
    with follow.path.open("wb") as file:
        for start in range(0, len(data), 99):
            size += file.write(data[start : start + 99])
            follow.take(data[start : start + 99])
            if follow.wants(size):
                file.flush()
                follow.to(size)
    return follow


def test_files_that_are_written_at_the_same_time_are_each_found_as_they_are(checker: Checker, tmp_path: Path) -> None:
    one, other = (checker.follow(tmp_path / name, "Patient") for name in ("a\tfile.ndjson", "größe\n.ndjson"))
    written(one)
    written(other, LINES[:-1] + b"}")
    assert one.is_large
    assert other.is_large
    assert other.result() == check_file(other.path, "Patient")
    assert one.result() == check_file(one.path, "Patient")


def test_a_helper_that_dies_changes_no_result(checker: Checker, tmp_path: Path) -> None:
    follow = written(checker.follow(tmp_path / "a", "Patient"))
    assert checker._helper is not None
    checker._helper.kill()
    checker._helper.wait()
    assert follow.result() == check_file(follow.path, "Patient")
    assert written(checker.follow(tmp_path / "b", "")).result() == check_file(tmp_path / "b", "")


def test_a_download_that_began_anew_is_checked_as_it_is_now(checker: Checker, tmp_path: Path) -> None:
    written(checker.follow(tmp_path / "a", "Patient")).drop()
    again = written(checker.follow(tmp_path / "a", "Patient"), LINES * 2)
    assert again.result() == check_file(again.path, "Patient")


def test_a_small_file_needs_no_helper(checker: Checker, tmp_path: Path) -> None:
    follow = written(checker.follow(tmp_path / "a", "Patient"), LINES[:300])
    assert not follow.is_large
    assert follow.result() == check_file(follow.path, "Patient")
    assert checker._helper is None


def test_without_a_helper_the_writer_checks_what_it_writes_and_reads_only_what_was_there(tmp_path: Path) -> None:
    alone = Checker(helper=False)
    whole = written(alone.follow(tmp_path / "a", "Patient"))
    assert not whole.is_large
    assert whole.result() == check_file(whole.path, "Patient")
    resumed = alone.follow(tmp_path / "a", "Patient")
    resumed.begin(len(LINES))
    with resumed.path.open("ab") as file:
        file.write(LINES)
    resumed.take(LINES)
    assert resumed.result() == check_file(resumed.path, "Patient")
    # one whose writer did not show it everything is read
    assert alone.follow(tmp_path / "a", "Patient").result() == check_file(tmp_path / "a", "Patient")
    alone.close()
