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
from tasks.model import Resource

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

    def forget(self, entry: Entry) -> bool:
        """Drop an id that the server does not know any more; say whether there was one."""

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

    def forget(self, entry: Entry) -> bool:
        """There is none but ours."""
        return False

    def at_home(self, keys: Iterable[str]) -> None:
        """Nothing to learn: every thing is addressed by its key."""


class ServerIds:
    """The server assigns ids: things are found by an identifier (or a tag) that holds ours.

    - `search` returns the server's id of what a relative search URL finds, or None.
    - What was learned is kept while the destination lives and is then PUT under the server's id; what is not known is
      PUT conditionally, and searched for once where something refers to it.
    - `match` names, by type, the system of the identifier by which the server knows such a thing already; where it is
      not empty, other types keep our ids.
    """

    def __init__(
        self, system: str, base: str, search: Callable[[str], str | None], match: Mapping[str, str] | None = None
    ) -> None:
        self._system = system
        self._base = base
        self._search = search
        self._match = dict(match or {})
        self._known: dict[str, str] = {}
        self._conditions: dict[str, str] = {}
        self._home: set[str] = set()
        self._lock = threading.Lock()

    def remember(self, ids: Mapping[str, str]) -> None:
        """Take ids that the server was seen to use, by key."""
        with self._lock:
            self._known.update({key: theirs for key, theirs in ids.items() if self._is_theirs(key)})

    def unknown(self, entries: Iterable[Entry]) -> set[str]:
        """Return the keys of which what was last said is needed: the server knows them by it, and nobody told how."""
        keys = {key for entry in entries for key in (*entry.references, *([entry.key] if entry.deletes else ()))}
        return {
            key
            for key in keys - self._known.keys() - self._conditions.keys()
            if key.partition("/")[0] in self._match and self._is_theirs(key)
        }

    def recall(self, said: Mapping[str, Resource]) -> None:
        """Take note of what was last said of things that are not sent themselves, by key."""
        for key, resource in said.items():
            self._identify(key, resource)

    def url(self, entry: Entry) -> str:
        """The server's id where it is known, else a conditional update or delete."""
        if not self._is_theirs(entry.key):
            return entry.key
        known = self._known.get(entry.key)
        if known is None and entry.deletes and (own := self._own(entry)) and (known := self._search(own)):
            # by its id and not by the condition: that would delete whatever else has the identifier by then
            self.remember({entry.key: known})
        return f"{entry.item.resource_type}/{known}" if known else self._condition(entry)

    def read_url(self, entry: Entry) -> str:
        """The same, read or searched."""
        return self.url(entry)

    def full_url(self, entry: Entry, base: str) -> str:
        """A URN that other entries of the bundle refer to."""
        return self._urn(entry.key)

    def body(self, entry: Entry, together: Collection[str]) -> bytes:
        """The resource with the server's id or none, ours as an identifier, references to where the server has them."""
        resource: dict[str, Any] = json.loads(entry.body)
        if self._is_theirs(entry.key):
            resource.pop("id", None)
            if known := self._known.get(entry.key):
                resource = {"resourceType": resource.pop("resourceType"), "id": known, **resource}
            self._mark(entry, resource)
        targets = {key: self._target(key, together) for key in entry.references}
        return json.dumps(rewritten(resource, {key: to for key, to in targets.items() if to}, self._base))

    def learn(self, entry: Entry, remote_id: str | None) -> None:
        """Keep the server's id for what refers to this."""
        if remote_id:
            self.remember({entry.key: remote_id})

    def forget(self, entry: Entry) -> bool:
        """Drop an id that the server does not know any more; say whether there was one."""
        with self._lock:
            return self._known.pop(entry.key, None) is not None

    def at_home(self, keys: Iterable[str]) -> None:
        """Address these by the server's own ids, which their keys hold."""
        self._home.update(keys)

    def _is_theirs(self, key: str) -> bool:
        return key not in self._home and (not self._match or key.partition("/")[0] in self._match)

    def _mark(self, entry: Entry, resource: dict[str, Any]) -> None:
        """Add our id, unless the thing has an identifier by which the server knows it."""
        ours = entry.item.id
        if self._own(entry):
            return
        if entry.item.resource_type in _WITHOUT_IDENTIFIER:
            meta = resource.setdefault("meta", {})
            meta["tag"] = [*meta.get("tag", []), {"system": self._system, "code": ours}]
        else:
            resource["identifier"] = [*resource.get("identifier", []), {"system": self._system, "value": ours}]

    def _own(self, entry: Entry) -> str | None:
        """Return the condition by the thing's own identifier of the system that `match` names."""
        if entry.item.resource is not None:
            self._identify(entry.key, entry.item.resource)
        return self._conditions.get(entry.key)

    def _identify(self, key: str, resource: Resource) -> None:
        kind = key.partition("/")[0]
        system = self._match.get(kind)
        if system is None or key in self._conditions:
            return
        listed = resource.get("identifier")
        values = [
            one["value"]
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict) and one.get("system") == system and isinstance(one.get("value"), str)
        ]
        if values:
            self._conditions[key] = _identified(kind, system, values[0])

    def _target(self, key: str, together: Collection[str]) -> str | None:
        if key in self._home:
            return key
        if key in together:
            return self._urn(key)
        if not self._is_theirs(key):
            return None
        known = self._known.get(key) or self._search(self._conditions.get(key) or self._ours(key))
        if known is None:
            return None
        self.remember({key: known})
        return f"{key.partition('/')[0]}/{known}"

    def _condition(self, entry: Entry) -> str:
        return self._own(entry) or self._ours(entry.key)

    def _ours(self, key: str) -> str:
        resource_type, _, ours = key.partition("/")
        if resource_type in _WITHOUT_IDENTIFIER:
            return f"{resource_type}?_tag={quote(f'{self._system}|{ours}', safe='')}"
        return _identified(resource_type, self._system, ours)

    def _urn(self, key: str) -> str:
        return f"urn:uuid:{uuid.uuid5(NAMESPACE, key)}"


def _identified(resource_type: str, system: str, value: str) -> str:
    return f"{resource_type}?identifier={quote(f'{system}|{value}', safe='')}"


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
