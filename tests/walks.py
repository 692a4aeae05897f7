"""docs/operations.md as tests walk through it: its sections, the commands in them and what those print."""

from __future__ import annotations

import re

from tasks.settings import PROJECT

PAGE = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
SECTIONS = {
    int(number): text
    for number, text in re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
}
THROUGH_PREFECT = {1}
"""What is walked through on the running stack (tests/e2e)."""


def walks(number: int) -> list[tuple[str, str]]:
    """The (command, expected output) of a section, in order."""
    block = re.search(r"```\n(.*?)```", SECTIONS[number], re.DOTALL)
    assert block is not None
    parts = [part.partition("\n") for part in re.split(r"^\$ ", block[1], flags=re.MULTILINE)[1:]]
    return [(command, expected) for command, _, expected in parts]


def says(expected: str, printed: str) -> bool:
    """Say whether what was printed is what the page shows: `…` is anything, and runs of blanks are one."""
    parts = [re.escape(" ".join(part.split())) for part in re.sub(r"\s+", " ", expected).split("…")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), re.sub(r"\s+", " ", printed).strip(), re.DOTALL) is not None
