"""What feeds have in common whose records come by themselves, to a listener that lands them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator

from tasks.errors import Permanent
from tasks.model import Offer
from tasks.source.port import SourceOptions, SourceState

_DURATION = re.compile(r"(\d+)(s|m|h|d)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration_seconds(duration: str) -> float:
    """Return the seconds of a duration that `check_duration` let through."""
    match = _DURATION.fullmatch(duration)
    assert match is not None  # noqa: S101
    return float(int(match[1]) * _UNITS[match[2]])


def check_duration(value: str) -> str:
    """Return a duration; raises `ValueError` for another form."""
    if not _DURATION.fullmatch(value):
        raise ValueError("a duration is a number and one of s, m, h, d, as 5m is")
    return value


Duration = Annotated[str, AfterValidator(check_duration)]


class PushOptions(SourceOptions):
    """What listeners of every kind may be told; `window` is how long a repetition is known for one."""

    window: Duration = "1d"


class PushedSource:
    """A source that offers nothing: its deliveries are in the ledger before anybody polls."""

    Options: ClassVar[type[SourceOptions]] = PushOptions

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None:
        self.options = options

    def poll(self, state: SourceState) -> Iterator[Offer]:
        """Yield nothing."""
        return iter(())

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        """Raise `Permanent`: what was pushed cannot be asked for again."""
        raise Permanent("a listener's delivery is in landing and nowhere else")

    def finish(self, offer: Offer, state: SourceState) -> None:
        """Nothing is left at the sender's side."""

    def done(self, state: SourceState) -> None:
        """There is no cursor."""

    def close(self) -> None:
        """Nothing is held open."""
