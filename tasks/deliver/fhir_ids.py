"""Under which ids a server keeps things: ours (PUT by id), or its own (conditional update by an identifier)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from mappings.engine import json
from mappings.engine.ids import NAMESPACE
from tasks.deliver.fhir_order import Entry, local

_WITHOUT_IDENTIFIER = frozenset({"Binary", "Bundle", "Provenance", "AuditEvent", "OperationOutcome", "Parameters"})


class Ids(Protocol):
    """How an entry is addressed and written."""

    def url(self, entry: Entry) -> str:
        """Return the URL, relative to the base, that is PUT or DELETEd."""

    def read_url(self, entry: Entry) -> str:
        """Return the URL, relative to the base, under which the thing is read."""

    def full_url(self, entry: Entry, base: str) -> str:
        """Return the entry's `fullUrl` in a bundle."""

    def body(self, entry: Entry, together: Collection[str]) -> bytes:
        """Return the resource's JSON; `together` are the keys of the same bundle."""

    def learn(self, entry: Entry, remote_id: str | None) -> None:
        """Take note of the id that the server uses."""

    def at_home(self, keys: Iterable[str]) -> None:
        """Take note of things that come from the server: these keys are its own."""


class ClientIds:
    """The server keeps things under our ids."""

    def url(self, entry: Entry) -> str:
        """`Type/id`."""
        return entry.key

    def read_url(self, entry: Entry) -> str:
        """`Type/id`."""
        return entry.key

    def full_url(self, entry: Entry, base: str) -> str:
        """The URL itself."""
        return f"{base}/{entry.key}"

    def body(self, entry: Entry, together: Collection[str]) -> bytes:
        """The resource as it is."""
        return entry.body

    def learn(self, entry: Entry, remote_id: str | None) -> None:
        """Nothing to learn."""

    def at_home(self, keys: Iterable[str]) -> None:
        """Nothing to learn: every thing is addressed by its key."""


class ServerIds:
    """The server assigns ids: things are found by an identifier (or a tag) that holds ours.

    `search` returns the server's id of what a relative search URL finds, or None. What was learned is kept while the
    destination lives; what is not known is searched for once.
    """

    def __init__(self, system: str, base: str, search: Callable[[str], str | None]) -> None:
        self._system = system
        self._base = base
        self._search = search
        self._known: dict[str, str] = {}
        self._home: set[str] = set()
        self._lock = threading.Lock()

    def url(self, entry: Entry) -> str:
        """A conditional update or delete."""
        return entry.key if entry.key in self._home else self._condition(entry.key)

    def read_url(self, entry: Entry) -> str:
        """The same condition, searched."""
        return self.url(entry)

    def full_url(self, entry: Entry, base: str) -> str:
        """A URN that other entries of the bundle refer to."""
        return self._urn(entry.key)

    def body(self, entry: Entry, together: Collection[str]) -> bytes:
        """The resource without an id, with ours as an identifier, references to where the server keeps things."""
        resource: dict[str, Any] = json.loads(entry.body)
        ours = entry.item.id
        if entry.key not in self._home:
            resource.pop("id", None)
            self._mark(resource, ours)
        targets = {key: self._target(key, together) for key in entry.references}
        return json.dumps(rewritten(resource, {key: to for key, to in targets.items() if to}, self._base))

    def _mark(self, resource: dict[str, Any], ours: str) -> None:
        """Add our id where the server finds it."""
        if resource["resourceType"] in _WITHOUT_IDENTIFIER:
            meta = resource.setdefault("meta", {})
            meta["tag"] = [*meta.get("tag", []), {"system": self._system, "code": ours}]
        else:
            resource["identifier"] = [*resource.get("identifier", []), {"system": self._system, "value": ours}]

    def learn(self, entry: Entry, remote_id: str | None) -> None:
        """Keep the server's id for what refers to this."""
        if remote_id:
            with self._lock:
                self._known[entry.key] = remote_id

    def at_home(self, keys: Iterable[str]) -> None:
        """Address these by the server's own ids, which their keys hold."""
        self._home.update(keys)

    def _target(self, key: str, together: Collection[str]) -> str | None:
        if key in self._home:
            return key
        if key in together:
            return self._urn(key)
        known = self._known.get(key) or self._search(self._condition(key))
        if known is None:
            return None
        with self._lock:
            self._known[key] = known
        return f"{key.partition('/')[0]}/{known}"

    def _condition(self, key: str) -> str:
        resource_type, _, ours = key.partition("/")
        parameter = "_tag" if resource_type in _WITHOUT_IDENTIFIER else "identifier"
        return f"{resource_type}?{parameter}={quote(f'{self._system}|{ours}', safe='')}"

    def _urn(self, key: str) -> str:
        return f"urn:uuid:{uuid.uuid5(NAMESPACE, key)}"


def rewritten(value: Any, targets: Mapping[str, str], base: str) -> Any:
    """Return a JSON value whose references to the keys of `targets` lead to where those say."""
    if isinstance(value, list):
        return [rewritten(item, targets, base) for item in value]
    if not isinstance(value, dict):
        return value
    out = {name: rewritten(item, targets, base) for name, item in value.items()}
    reference = out.get("reference")
    key = local(reference, base) if isinstance(reference, str) else None
    if key is not None and key in targets:
        out["reference"] = targets[key]
    return out
