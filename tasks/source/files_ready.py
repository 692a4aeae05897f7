"""When a file counts as whole: stability over polls, a marker beside it, a rename, or a manifest that names it.

A rule is made anew for each poll. It is shown every file once, in the order of the listing, and yields what is
ready as soon as it knows; `rest` yields what only the whole listing could tell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tasks.model import Finding, Offer
from tasks.source import files_manifest
from tasks.source.files_names import matcher, safe
from tasks.source.port import Ready, SourceState

SETTLED = 2
"""Polls in a row that a manifest, or a file that does not agree with what was said of it, must not change."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One regular file of a listing: its name relative to the source's path, and what tells it from its successors.

    `modified` is in seconds since 1970 by the other side's clock; `meta` is what the source needs to open it.
    """

    name: str
    version: str
    size: int
    modified: float = 0.0
    meta: Mapping[str, Any] = field(default_factory=dict)

    def offer(self, **meta: Any) -> Offer:
        """Return the offer of this file with `meta` beside its own."""
        return Offer(self.name, self.version, self.size, {**self.meta, **meta})


class Rule(Protocol):
    """Decides which files of one poll are ready."""

    def companion(self, name: str) -> bool:
        """Say whether `name` is a marker, a manifest or not there yet, and so no delivery itself."""

    def seen(self, entry: Entry) -> Iterator[Offer]:
        """Take note of a file that is not landed yet, or of a companion; yield what is ready now."""

    def known(self, entry: Entry) -> None:
        """Take note of a file that has been landed already."""

    def rest(self) -> Iterator[Offer]:
        """Yield what is ready at the end of the listing."""


def rule_for(ready: Ready, state: SourceState, fetch: Callable[[Entry], bytes]) -> Rule:
    """Return the rule that a feed's `ready` asks for; `fetch` reads a manifest whole."""
    if ready.marker is not None:
        return Marked(ready.marker, state)
    if ready.rename_from is not None:
        return Renamed(ready.rename_from)
    if ready.manifest is not None:
        return Listed(ready.manifest, state, fetch)
    return Stable(ready.stable_polls or 1, state)


class Stable:
    """The same version in n polls in a row."""

    def __init__(self, polls: int, state: SourceState) -> None:
        self._polls, self._state = polls, state

    def companion(self, name: str) -> bool:
        return False

    def seen(self, entry: Entry) -> Iterator[Offer]:
        if self._polls <= 1 or self._state.sighted(entry.name, entry.version) >= self._polls:
            yield entry.offer()

    def known(self, entry: Entry) -> None:
        """Nothing depends on it."""

    def rest(self) -> Iterator[Offer]:
        yield from ()


class Renamed:
    """Uploads carry a suffix until they are whole."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix

    def companion(self, name: str) -> bool:
        return name.endswith(self._suffix)

    def seen(self, entry: Entry) -> Iterator[Offer]:
        if not self.companion(entry.name):
            yield entry.offer()

    def known(self, entry: Entry) -> None:
        """Nothing depends on it."""

    def rest(self) -> Iterator[Offer]:
        yield from ()


class Marked:
    """A marker stands beside the file.

    A marker that is older than the file, or of the same second and looked at before, may be the predecessor's: the
    file then has to be stable as well, so that a correction that is still being uploaded is not taken, and one with
    kept times is not left.
    """

    def __init__(self, template: str, state: SourceState) -> None:
        self._template, self._state = template, state
        self._pattern = re.compile(re.escape(template).replace(r"\{name\}", "(.+)").replace(r"\{stem\}", "(.+)"))
        self._markers: dict[str, Entry] = {}
        self._waiting: dict[str, Entry] = {}
        self._first: dict[str, bool] = {}

    def marker(self, name: str) -> str:
        """Return the name of the marker of `name`, in the same folder."""
        folder, slash, base = name.rpartition("/")
        stem = base.rpartition(".")[0] or base
        return folder + slash + self._template.replace("{name}", base).replace("{stem}", stem)

    def companion(self, name: str) -> bool:
        return self._pattern.fullmatch(name.rpartition("/")[2]) is not None

    def seen(self, entry: Entry) -> Iterator[Offer]:
        if self.companion(entry.name):
            self._markers[entry.name] = entry
        else:
            self._waiting[entry.name] = entry
        yield from ()

    def known(self, entry: Entry) -> None:
        """Nothing depends on it."""

    def rest(self) -> Iterator[Offer]:
        for entry in self._waiting.values():
            marker = self._markers.get(self.marker(entry.name))
            if marker and (self._marks(marker, entry) or self._state.sighted(entry.name, entry.version) >= SETTLED):
                yield entry.offer(marker=marker.name)

    def _marks(self, marker: Entry, entry: Entry) -> bool:
        """Say whether the marker is this version's: SFTP and S3 tell whole seconds, in which two versions may fall."""
        if marker.name not in self._first:
            # once a poll: several files may share a marker (`{stem}`)
            self._first[marker.name] = self._state.sighted(marker.name, marker.version) == 1
        return entry.modified < marker.modified or (self._first[marker.name] and entry.modified == marker.modified)


class Listed:
    """A manifest names the file.

    - A manifest counts once it did not change for `SETTLED` polls; one that cannot be read is offered itself with
      an error finding, so that it is seen and refused.
    - A file that agrees with its manifest is offered with `meta["expect"]`; one that does not, once it has settled,
      also with `meta["findings"]`. The others of a manifest that names an absent file carry a warning.
    """

    def __init__(self, glob: str, state: SourceState, fetch: Callable[[Entry], bytes]) -> None:
        self._matches, self._state, self._fetch = matcher((glob,)), state, fetch
        self._manifests: list[Entry] = []
        self._waiting: dict[str, Entry] = {}
        self._known: set[str] = set()
        self.files: dict[str, tuple[str, ...]] = {}
        """The names that each manifest lists, by the manifest's name, once `rest` was exhausted."""

    def companion(self, name: str) -> bool:
        return self._matches(name) or self._matches(name.rpartition("/")[2])

    def seen(self, entry: Entry) -> Iterator[Offer]:
        if self.companion(entry.name):
            self._manifests.append(entry)
        else:
            self._waiting[entry.name] = entry
        yield from ()

    def known(self, entry: Entry) -> None:
        self._known.add(entry.name)

    def rest(self) -> Iterator[Offer]:
        for manifest in self._manifests:
            settled = self._state.sighted(manifest.name, manifest.version) >= SETTLED
            if settled and not self._state.landed(manifest.name, manifest.version):
                yield from self._offers(manifest)

    def _offers(self, manifest: Entry) -> Iterator[Offer]:
        try:
            listed = named(manifest, self._fetch(manifest))
        except ValueError:
            yield manifest.offer(findings=[_plain(Finding("manifest-unreadable", "manifest", "error"))])
            return
        self.files[manifest.name] = tuple(listed)
        absent = self._absent(manifest, listed)
        for name, said in listed.items():
            entry = self._waiting.get(name)
            if entry is None:
                continue
            wrong = files_manifest.disagreements(said, entry.size)
            if wrong and self._state.sighted(entry.name, entry.version) < SETTLED:
                continue
            findings = [_plain(finding) for finding in (*wrong, *absent)]
            yield entry.offer(manifest=manifest.name, expect=said.expect(), findings=findings)

    def _absent(self, manifest: Entry, listed: Mapping[str, files_manifest.Listed]) -> tuple[Finding, ...]:
        """Return the warning that a named file is absent, unless all of them had been there once.

        What was there once and is gone was landed and moved: after a crash in between nothing else may be said.
        """
        cursor = dict(self._state.cursor())
        key = f"{manifest.name}\n{manifest.version}"
        whole: list[str] = list(cursor.get("manifests", ()))
        if key in whole:
            return ()
        if all(name in self._waiting or name in self._known for name in listed):
            here = {f"{entry.name}\n{entry.version}" for entry in self._manifests}
            self._state.save({**cursor, "manifests": [*(old for old in whole if old in here), key]})
            return ()
        return (Finding("manifest-file-absent", "manifest.name", "warning"),)


def named(manifest: Entry, data: bytes) -> dict[str, files_manifest.Listed]:
    """Return what a manifest lists by name below the source's path; raises `ValueError` where it cannot be read."""
    folder, slash, _ = manifest.name.rpartition("/")
    listed: dict[str, files_manifest.Listed] = {}
    for said in files_manifest.parse(data):
        name = folder + slash + said.name.removeprefix("./")
        if not safe(name):
            raise ValueError("the manifest names a file outside its folder")
        listed[name] = said
    return listed


def _plain(finding: Finding) -> dict[str, str]:
    return {"code": finding.code, "location": finding.location, "severity": finding.severity}
