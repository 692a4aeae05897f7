"""The `sluice` command as people type it, with a state folder of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployments.cli.main import main


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of its error; fails where there are more, or a traceback."""
        lines = self.err.strip().split("\n")
        assert len(lines) == 1, self.err
        assert lines[0].startswith("sluice: "), self.err
        return lines[0].removeprefix("sluice: ")


Sluice = Callable[..., Answer]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The state folder; it does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
def sluice(home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Sluice:
    """Run a command with nothing of anybody's stack in its environment, and end as its process would."""
    before = dict(os.environ)
    clean = {name: value for name, value in before.items() if not name.startswith(("SLUICE_", "PREFECT_"))}

    def run(*args: str, **env: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["sluice", *args])
        os.environ.clear()
        os.environ.update({**clean, "SLUICE_HOME": str(home), **env})
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            os.environ.clear()
            os.environ.update(before)
        said = capfd.readouterr()
        answer = Answer(int(ended.value.code or 0), said.out, said.err)
        assert "Traceback" not in answer.out + answer.err, answer.err
        return answer

    return run


@pytest.fixture
def feed(tmp_path: Path) -> Callable[[str], str]:
    """Write a feed file and return its path."""

    def write(text: str, name: str = "some.feed.yaml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write
