"""Folders that are small or read-only, made by mounts of the system: no fault that is only imitated."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this needs root and the right to mount")


class Small:
    """A file system in memory with room for so many bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def room(self, size: int) -> None:
        """Give it more room, or less."""
        _mount("-o", f"remount,size={size}", str(self.folder))


@contextmanager
def small(folder: Path, size: int) -> Iterator[Small]:
    """Mount a small file system on a folder."""
    if os.geteuid():
        pytest.skip("this needs root")
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={size},mode=0777", "tmpfs", str(folder))
    try:
        yield Small(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mount a folder over itself so that nothing in it can be changed."""
    if os.geteuid():
        pytest.skip("this needs root")
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,bind,ro", str(folder))
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
