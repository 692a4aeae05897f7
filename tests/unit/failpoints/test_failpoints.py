"""Failpoints: each one stands on the way, costs nothing when nobody asked, and strikes once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import failpoints
from tasks.failpoints import POINTS, arm, reached, taken
from tasks.settings import PROJECT


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    failpoints.watch(tmp_path)
    yield tmp_path
    failpoints.watch(None)


def test_every_point_stands_somewhere_on_the_way_and_no_other_does() -> None:
    found = {
        name
        for path in (PROJECT / "tasks").rglob("*.py")
        if path.name != "failpoints.py"
        for name in re.findall(r'\breached\("([^"]+)"\)', path.read_text())
    }
    assert found == set(POINTS)


def test_an_armed_point_is_taken_once(folder: Path) -> None:
    arm(folder, "staged", "note")
    reached("gated")
    assert taken(folder, "staged") is None
    reached("staged")
    assert taken(folder, "staged") == os.getpid()
    (folder / f"staged.{os.getpid()}").unlink()
    reached("staged")
    assert taken(folder, "staged") is None


def test_a_process_may_pass_so_many_times_first(folder: Path) -> None:
    arm(folder, "parsed", "note", 2)
    for number in range(3):
        assert taken(folder, "parsed") is None, number
        reached("parsed")
    assert taken(folder, "parsed") == os.getpid()


def test_nothing_is_looked_at_where_no_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arm(tmp_path, "staged", "kill")
    monkeypatch.setattr(failpoints, "_act", lambda *_: pytest.fail("it looked"))
    reached("staged")


def test_kill_is_what_kill_9_is(tmp_path: Path) -> None:
    arm(tmp_path, "landed", "kill")
    code = "from tasks.failpoints import reached; reached('landed')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "SLUICE_FAILPOINTS": str(tmp_path)}, cwd=PROJECT, check=False
    )
    assert done.returncode == -9
