"""What a receipt says."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.model import Finding


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier delivery that this one repeats or corrects; `landed_at` is ISO 8601."""

    delivery: int
    name: str
    landed_at: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A record that was refused, or was a duplicate, where a partner finds it; what was wrong by code and location.

    - `findings` are (code, location), errors alone; empty for a duplicate.
    - `header`: the record as a whole was unreadable or of a kind that is not taken.
    """

    ordinal: int
    place: str
    findings: tuple[tuple[str, str], ...] = ()
    header: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """One delivery as its partner may know it.

    - received = accepted + refused + duplicate + filtered (taken, but the feed's route has no use for it).
    - `delivery` and `landed_at` are None where nothing was landed: a file that is only checked.
    - `refused_records` of a delivery that is a duplicate are those of the first one, whose bytes are the same.
    """

    feed: str
    delivery: int | None
    name: str
    state: str
    sha256: str
    size: int
    landed_at: str | None
    made_at: str
    received: int
    accepted: int
    refused: int
    duplicate: int
    filtered: int
    duplicate_of: Earlier | None = None
    corrects: Earlier | None = None
    refused_records: tuple[Stopped, ...] = ()
    duplicate_records: tuple[Stopped, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing was refused."""
        return self.state != "refused" and not self.refused_records


def errors(findings: tuple[Finding, ...] | list[Finding]) -> tuple[tuple[str, str], ...]:
    """Return code and location of the errors among findings, each once, in their order."""
    return tuple(dict.fromkeys((one.code, one.location) for one in findings if one.severity == "error"))


def about_header(stage: str, findings: tuple[tuple[str, str], ...]) -> bool:
    """Say whether a record was refused for what it is as a whole (HL7 table 0008: AR) and not for its content (AE)."""
    return stage == "parse" or any(place.partition("-")[0] in ("MSH", "delivery") for _, place in findings)
