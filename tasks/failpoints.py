"""Failpoints: named places where a process can be made to die or to stand still, so that going on can be proved.

`SLUICE_FAILPOINTS` names a folder; a file in it with a point's name arms the point. The first process that gets there
takes the file (it becomes `<point>.<process id>`), so that whoever goes on passes by, and does what the file says:
`kill` (as kill -9 would), `freeze` (SIGSTOP to itself: every thread, the lease's too) or `note` (nothing more). A
number behind it lets the process pass so many times first.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Literal, get_args

from tasks.settings import failpoints_folder

Point = Literal[
    "listed",
    "downloading",
    "fsynced",
    "landed",
    "acknowledged",
    "source-archived",
    "parsed",
    "converted",
    "staged",
    "gated",
    "before-commit",
    "after-commit",
    "outbox-claimed",
    "sent-unconfirmed",
    "receipt-written",
]
"""In the order of a record's way; `sent-unconfirmed` is a destination that has answered and a ledger without it."""

POINTS: tuple[Point, ...] = get_args(Point)

_SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "note": None}

# read once, because a point may stand on the way of every record
_folder = failpoints_folder()
_passed: Counter[Point] = Counter()


def reached(point: Point) -> None:
    """Do what the point is armed for; nothing where no folder was named."""
    if _folder is not None:
        _act(_folder, point)


def watch(folder: Path | None) -> None:
    """Look for armed points in `folder` from now on, in none where it is None."""
    global _folder  # noqa: PLW0603 - the one switch, tested on every record's way
    _folder = folder
    _passed.clear()


def arm(folder: Path, point: Point, action: Literal["kill", "freeze", "note"], passes: int = 0) -> None:
    """Arm a point for the process that gets there first."""
    part = folder / f".{point}.part"
    part.write_text(f"{action} {passes}")
    part.replace(folder / point)


def taken(folder: Path, point: Point) -> int | None:
    """Return the id of the process that got to an armed point, None while nobody did."""
    return next((int(path.suffix[1:]) for path in folder.glob(f"{point}.*")), None)


def _act(folder: Path, point: Point) -> None:
    armed = folder / point
    try:
        action, passes = armed.read_text().split()
        _passed[point] += 1
        if _passed[point] <= int(passes):
            return
        armed.rename(folder / f"{point}.{os.getpid()}")
    except FileNotFoundError:
        return
    if number := _SIGNALS[action]:
        os.kill(os.getpid(), number)
