"""The port of a destination: where the store's versions go.

A destination is one module with a class of two methods, registered under the entry point group
`sluice.destinations` by the word that a destination's file writes as `kind`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict

from tasks.model import Finding, Resource

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


class Part(BaseModel):
    """A block of a destination's file: unknown keys are mistakes, no value is quoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DestinationOptions(Part):
    """What every destination's file may say; a kind's own options extend it.

    `send: resources` sends what the store holds, `send: pass` the records themselves, as they came.
    """

    kind: str
    connection: str | None = None
    send: Literal["resources", "pass"] = "resources"


@dataclass(frozen=True, slots=True)
class Item:
    """One version to be delivered; `resource` is None where the thing is deleted.

    - `names`: of this thing and of what it refers to those that come from the destination itself, by our `Type/id` the
      `Type/id` there; under that it is written and referred to.
    - Where the destination is sent records themselves (`send: pass`), `resource_type` is `!record`, `id` the record's
      number and `content` its bytes.
    - `at` is when this version was published, or the record landed; None where nobody knows.
    """

    resource_type: str
    id: str
    version: int
    resource: Resource | None
    names: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    at: datetime | None = None

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


def misnamed(item: Item) -> Outcome | None:
    """Return the refusal of a thing whose type or id FHIR does not allow, or is not what it says of itself.

    None where it is sound, and of a record that is passed on as it came. Source: FHIR R4, datatypes.html, "id".
    """
    if item.resource_type.startswith("!"):
        return None
    place = "Resource.id"
    if _TYPE.fullmatch(item.resource_type) and _ID.fullmatch(item.id):
        found = item.resource
        if found is None or (found.get("resourceType") == item.resource_type and found.get("id") == item.id):
            return None
        place = f"{item.resource_type}.id"
    return Outcome(item, "refused", "not-sent", Finding("invalid-id", place, "error"))


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


class Store(Protocol):
    """Where a destination looks up what goes with what it is sent."""

    def get(self, keys: Collection[str]) -> Mapping[str, Resource]:
        """Return current resources by key (`Type/id`), without those that are unknown or deleted."""

    def last(self, keys: Collection[str]) -> Mapping[str, Resource]:
        """Return resources by key as `get` does, and of what is deleted what was last said of it."""

    def beside(self, keys: Collection[str], resource_type: str) -> Mapping[str, Sequence[Resource]]:
        """Return, by key, the resources of a type that the same record said."""

    def table(self, name: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a table of the schema `core`."""


@runtime_checkable
class UsesStore(Protocol):
    """A destination that writes messages of several resources."""

    def use(self, store: Store) -> None:
        """Take the store to look things up in; called before anything is sent."""


@runtime_checkable
class Remembers(Protocol):
    """A destination that assigns ids of its own."""

    def remember(self, ids: Mapping[str, str]) -> None:
        """Take its own ids of things (`Type/id`) that it was sent before."""


@runtime_checkable
class Together(Protocol):
    """A destination that writes many things into one: after a crash it is given the same again, and nothing more."""

    together: bool
