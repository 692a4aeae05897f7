r"""A message written with other separators: what was escaped is written plain where it may be, and the other way round.

`\.br\`, `\X41\`, `\H\` and the like keep their letters and get the new escape character.
"""

from __future__ import annotations

import re

STANDARD = "|^~\\&#"
_LETTERS = "FSRETP"
_SEQUENCE = re.compile(r"\\([^\\\r]*)\\")


def rewritten(text: str, marks: str) -> str:
    r"""Return the messages in `text`, written with `|^~\&#`, with the six separators in `marks`."""
    lines = []
    for line in text.split("\r"):
        if line.startswith("MSH"):
            encoding = "".join(marks[STANDARD.index(mark)] for mark in line[4:9].partition("|")[0])
            rest = line[4:].partition("|")[2]
            lines.append(f"MSH{marks[0]}{encoding}{marks[0]}{_line(rest, marks)}")
        else:
            lines.append(_line(line, marks))
    return "\r".join(lines)


def _line(line: str, marks: str) -> str:
    written, at = [], 0
    for found in _SEQUENCE.finditer(line):
        written += [_plain(line[at : found.start()], marks), _escaped(found[1], marks)]
        at = found.end()
    return "".join([*written, _plain(line[at:], marks)])


def _plain(text: str, marks: str) -> str:
    table = {mark: marks[place] for place, mark in enumerate(STANDARD[:5]) if mark != "\\"}
    return "".join(table.get(letter) or _literal(letter, marks) for letter in text)


def _literal(letter: str, marks: str) -> str:
    return f"{marks[3]}{_LETTERS[marks.index(letter)]}{marks[3]}" if letter in marks else letter


def _escaped(sequence: str, marks: str) -> str:
    if len(sequence) == 1 and sequence in _LETTERS:
        return _literal(STANDARD[_LETTERS.index(sequence)], marks)
    return f"{marks[3]}{sequence}{marks[3]}"
