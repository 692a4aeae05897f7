"""The port of a source: where deliveries come from.

A source is one module with a class of three methods, registered under the entry point group `sluice.sources`
by the word that a feed file writes as `source.kind`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tasks.model import Notice, Offer


class SourceOptions(BaseModel):
    """What every `source:` block may say; a kind's own options extend it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: str
    connection: str | None = None

    def mistakes(self, feed: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Yield what of the feed's file, which is well formed, does not go with this source: where, and what."""
        yield from ()


class Ready(BaseModel):
    """When a file counts as whole; exactly one rule is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    stable_polls: int | None = Field(default=None, ge=1)
    marker: str | None = Field(default=None, pattern=r"\{(name|stem)\}")
    rename_from: str | None = Field(default=None, min_length=1)
    manifest: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one_rule(self) -> Ready:
        if len(self.model_fields_set) != 1 or None in (getattr(self, name) for name in self.model_fields_set):
            raise ValueError("ready takes exactly one of stable_polls, marker, rename_from, manifest")
        return self


class FileOptions(SourceOptions):
    """What the sources of files (sftp, s3, directory) have in common."""

    path: str = ""
    match: str | tuple[str, ...] = "*"
    ready: Ready = Ready(stable_polls=2)
    decrypt: str | None = None
    after: Literal["archive", "delete", "leave"] = "leave"


class SourceState(Protocol):
    """What a source remembers between polls; the ledger keeps it, a dict in tests does too."""

    def sighted(self, name: str, version: str) -> int:
        """Note that `name` was seen with `version`; return in how many polls in a row, this one included."""

    def landed(self, name: str, version: str) -> bool:
        """Say whether this version of `name` has been landed already."""

    def cursor(self) -> Mapping[str, Any]:
        """Return the cursor as last saved; empty at first."""

    def save(self, cursor: Mapping[str, Any]) -> None:
        """Keep `cursor` durably."""

    def notices(self) -> Sequence[Notice]:
        """Return what a listener was told has changed at the source, the oldest first."""

    def noticed(self, numbers: Sequence[int]) -> None:
        """Forget notices: what they tell of was landed."""


class Source(Protocol):
    """Hands over deliveries; built from its options and the named connection's values."""

    Options: ClassVar[type[SourceOptions]]

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None: ...

    def poll(self, state: SourceState) -> Iterator[Offer]:
        """Yield what is whole and not landed yet. Raises `Transient` or `Permanent`."""

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        """Yield the offer's bytes from `offset` on; raises `Transient` where they changed since the poll."""

    def finish(self, offer: Offer, state: SourceState) -> None:
        """Do what the feed wants done once the offer's bytes and their ledger row are committed."""

    def done(self, state: SourceState) -> None:
        """Called after every offer of a poll was landed: the place to advance a cursor."""

    def close(self) -> None:
        """Give up connections."""


class Receiver(Protocol):
    """A source to whose side files can be written: where a partner finds its receipts. The sources of files are one."""

    def put(self, path: str, chunks: Iterable[bytes]) -> None:
        """Write a file of these bytes at `path`, in place of one that is there; folders that are missing are made.

        `path` is the connection's, not below `source.path`. Nobody sees the file half written. Raises `Transient` or
        `Permanent`.
        """
