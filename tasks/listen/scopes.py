"""SMART system scopes, version 1 (`system/Patient.write`) and 2 (`system/Patient.cu`) (SMART App Launch 2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SCOPE = re.compile(r"system/(\*|[A-Z][A-Za-z]+)\.(read|write|\*|c?r?u?d?s?)")
_LETTERS = {"read": "rs", "write": "cud", "*": "cruds"}

FILES = ("Binary", "c")
"""The scope of a file that is uploaded: FHIR's own word for what is not FHIR."""

Action = tuple[str, str]
"""A resource type and one of c, u, d."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a client may do: letters by resource type, `*` for all types."""

    letters: dict[str, frozenset[str]]

    @classmethod
    def of(cls, scope: str) -> Rights:
        """Read a token's scope; what is no system scope, or is narrowed by a search (`?…`), gives no right."""
        letters: dict[str, frozenset[str]] = {}
        for word in scope.split():
            if match := _SCOPE.fullmatch(word):
                granted = frozenset(_LETTERS.get(match[2], match[2]))
                letters[match[1]] = letters.get(match[1], frozenset()) | granted
        return cls(letters)

    def missing(self, actions: Iterable[Action]) -> list[str]:
        """Return the scopes, in the words of version 2, that the actions need and the client does not have."""
        allowed = self.letters.get("*", frozenset())
        needed = dict.fromkeys(actions)
        return [
            f"system/{kind}.{letter}"
            for kind, letter in needed
            if letter not in allowed | self.letters.get(kind, frozenset())
        ]


EVERYTHING = Rights({"*": frozenset("cud")})
