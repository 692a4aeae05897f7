"""What is wrong with a mapping file, said when it is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MappingError(Exception):
    """Mapping files hold mistakes; `problems` is one line each: file, line, what, the nearest valid word."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


class Mistake(Exception):
    """One mistake in a row; the loader adds file and line."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return `, did you mean …?` with the nearest valid word, or the first few valid words."""
    words = sorted(set(valid))
    close = get_close_matches(word, words, n=1, cutoff=0.5)
    if close:
        return f", did you mean {close[0]}?"
    return f", one of {', '.join(words[:12])}" if words else ""
