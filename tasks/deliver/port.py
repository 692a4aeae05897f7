"""The port of a destination: where the store's versions go.

A destination is one module with a class of two methods, registered under the entry point group
`sluice.destinations` by the word that a destination's file writes as `kind`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from tasks.model import Finding, Resource


class DestinationOptions(BaseModel):
    """What every destination's file may say; a kind's own options extend it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: str
    connection: str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One version to be delivered; `resource` is None where the thing is deleted.

    - `names`: of this thing and of what it refers to those that come from the destination itself, by our `Type/id` the
      `Type/id` there; under that it is written and referred to.
    """

    resource_type: str
    id: str
    version: int
    resource: Resource | None
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`Type/id` as the destination calls it."""
        ours = f"{self.resource_type}/{self.id}"
        return self.names.get(ours, ours)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the destination said of one item.

    - `sent`: confirmed; `unchanged`: it had this already; `refused`: it will not take it, `finding` says why;
      `retry`: not now, `retry_after` seconds where it said so.
    - `code` is the transport's own word (an HTTP status, an acknowledgement code).
    - `remote_id` and `remote_version` are the destination's, where it assigns them.
    """

    item: Item
    status: Literal["sent", "unchanged", "refused", "retry"]
    code: str = ""
    finding: Finding | None = None
    retry_after: float | None = None
    remote_id: str | None = None
    remote_version: str | None = None


class Destination(Protocol):
    """Takes versions; built from its options and the named connection's values."""

    Options: ClassVar[type[DestinationOptions]]

    def __init__(self, options: Any, connection: Mapping[str, str]) -> None: ...

    def send(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Deliver `items`, each id at most once among them, and yield exactly one outcome for each.

        What others refer to goes first; parallel where the destination stands it. Raises `Transient` only where
        nothing at all could be sent.
        """

    def close(self) -> None:
        """Give up connections."""
