"""Files as a destination (`kind: sftp`, `s3`, `directory`): what is new goes into files with a name of their own.

They are written through the source of the same kind: under another name first, then renamed, so that nobody takes half
a file; over SFTP with the pinned host key, into a folder without leaving it. A file's name and content say when what is
in it was published, not when it was written: after a crash between writing and noting it the same things make the same
file again, not a second one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from tempfile import TemporaryFile
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from mappings.engine import json
from mappings.engine.views import View, ViewError
from mappings.engine.yamlfile import nearest
from tasks import registry
from tasks.core_views import core_views
from tasks.deliver import files_part, files_rows, hl7v2_batch
from tasks.deliver.files_part import Part
from tasks.deliver.files_pgp import sealer
from tasks.deliver.hl7v2_messages import MESSAGES, Charset, Header, Kind, Writer
from tasks.deliver.port import DestinationOptions, Item, Outcome, Store, misnamed
from tasks.deliver.port import Part as Block
from tasks.errors import ConfigError
from tasks.model import Finding
from tasks.settings import connection as named_connection

PLACES = {"what", "digest", "date", "time", "number", "extension"}
_PLACE = re.compile(r"\{([^{}]*)\}")


class Rotate(Block):
    """Where a file ends and the next begins: after so many records or bytes (before encryption)."""

    records: int = Field(default=100_000, ge=1)
    bytes: int = Field(default=100_000_000, ge=1_000)


class FilesOptions(DestinationOptions):
    """A destination's file with `kind: sftp`, `s3` or `directory`.

    - `path` is the folder (the prefix), from the connection's root on; `name` a file's name: `{what}` is the resource
      type, the view or `messages`, `{digest}` stands for what is in it, `{number}` counts within a run, `{date}` and
      `{time}` are when the newest of what is in it was published (UTC), `{extension}` is the format's.
    - `format`: `ndjson` of resources, or of a view's rows; `csv` and `parquet` of a view's rows; `hl7v2`, a batch of
      messages: as they came with `send: pass`, else written from the store as for `kind: mllp` (`messages`, `header`,
      `charset`).
    - `view`: rows of what changed; with `snapshot: true` the whole of the view's table each time something did.
    - `types` are the resource types that are written, all of them without.
    - `encrypt` is the connection whose `recipients` (OpenPGP certificates) can read the files; with `secret_key` there
      they are signed.
    - `manifest` is the name of a JSON file that is written last and lists the files with size, records and SHA-256.
    """

    path: str = ""
    name: str = "{what}.{date}T{time}.{digest}.{extension}"
    format: Literal["ndjson", "csv", "parquet", "hl7v2"] = "ndjson"
    view: str | None = None
    snapshot: bool = False
    types: tuple[str, ...] = ()
    rotate: Rotate = Rotate()
    encrypt: str | None = None
    manifest: str | None = None
    messages: tuple[Kind, ...] = MESSAGES
    header: Header = Header()
    charset: Charset = "utf-8"

    @field_validator("name", "manifest")
    @classmethod
    def _known_places(cls, value: str | None) -> str | None:
        for place in _PLACE.findall(value or ""):
            if place not in PLACES:
                raise ValueError(f"{{{place}}} is not a part of a name{nearest(place, PLACES)}")
        return value

    @field_validator("view")
    @classmethod
    def _known_view(cls, value: str | None) -> str | None:
        if value is not None and value not in core_views():
            raise ValueError(f"{value} is not a view{nearest(value, core_views())}")
        return value

    @model_validator(mode="after")
    def _fits(self) -> FilesOptions:
        if self.format in {"csv", "parquet"} and self.view is None:
            raise ValueError(f"`format: {self.format}` needs a `view:` whose columns it has")
        if self.send == "pass" and self.format != "hl7v2":
            raise ValueError("`send: pass` goes with `format: hl7v2`: messages are written as they came")
        if self.snapshot and self.view is None:
            raise ValueError("`snapshot: true` needs a `view:`, whose table is written whole")
        if not self.snapshot and not {"digest", "number"} & set(_PLACE.findall(self.name)):
            raise ValueError("`name:` needs {digest} or {number}: a second file would take the first one's place")
        return self


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is there."""

    name: str
    size: int
    records: int
    sha256: str


class FilesDestination:
    """Writes what is new into files of one folder."""

    Options: ClassVar[type[DestinationOptions]] = FilesOptions
    together = True

    def __init__(self, options: FilesOptions, connection: Mapping[str, str]) -> None:
        kind = registry.find("sources", options.kind)
        self._options = options
        self._place = kind(kind.Options(kind=options.kind, path=options.path), connection)
        self._view: View | None = core_views()[options.view] if options.view else None
        self._seal = sealer(named_connection(options.encrypt)) if options.encrypt else None
        self._store: Store | None = None
        self._writer = Writer(options.header, options.charset, options.messages)

    def use(self, store: Store) -> None:
        """Take the store: a snapshot is read from its tables, what goes into a message looked up there."""
        self._store = self._writer.store = store

    def send(self, items: Sequence[Item]) -> Iterator[Outcome]:
        """Write `items` into files, and yield one outcome for each once its file is there; raises `Transient`."""
        wanted: list[Item] = []
        for item in items:
            if refusal := misnamed(item):
                yield refusal
            elif self._wants(item):
                wanted.append(item)
            else:
                yield Outcome(item, "unchanged", "not-wanted")
        others: list[Outcome] = []
        # not the clock's time: what is written again after a crash has the same name then, and the same content
        at = max((item.at for item in wanted if item.at), default=datetime.now(UTC)).astimezone(UTC)
        written: list[Written] = []
        for part in self._parts(wanted, others):
            written.append(self._write(part, at, len(written) + 1))
        if self._options.manifest and written:
            self._manifest(written, at)
        bad = {outcome.item.key for outcome in others}
        yield from others
        for item in wanted:
            if item.key not in bad:
                yield Outcome(item, "sent", "written")

    def close(self) -> None:
        """Give up the connection."""
        self._place.close()

    def _wants(self, item: Item) -> bool:
        if item.content is not None:
            return True
        types = (self._view.resource,) if self._view else self._options.types
        return not types or item.resource_type in types

    def _parts(self, items: Sequence[Item], others: list[Outcome]) -> Iterator[Part]:
        options = self._options
        if not items:
            return
        if options.format == "hl7v2":
            if options.send == "pass":
                yield from hl7v2_batch.parts(hl7v2_batch.passed(items, others), options.rotate)
            else:
                yield from hl7v2_batch.parts(self._told(items, others), options.rotate, options.header.ends())
        elif self._view is None:
            yield from files_rows.resources(items, options.rotate)
        elif options.snapshot:
            if self._store is None:
                raise ConfigError("`snapshot: true` writes a table of the warehouse: it is not for `sluice load`")
            columns = [column.name for column in self._view.columns]
            yield from files_rows.rows(
                self._view, self._store.table(self._view.name, columns), options.format, options.rotate
            )
        else:
            yield from files_rows.rows(self._view, self._rows(items, others), options.format, options.rotate)
            yield from files_rows.deletions([item for item in items if item.resource is None], options.rotate)

    def _told(self, items: Sequence[Item], others: list[Outcome]) -> Iterator[bytes]:
        for told in self._writer.tell(items):
            if told.outcome is None:
                yield told.data
            else:
                others.append(told.outcome)

    def _rows(self, items: Sequence[Item], refused: list[Outcome]) -> Iterator[dict[str, Any]]:
        assert self._view is not None  # noqa: S101
        for item in items:
            if item.resource is None:
                continue
            try:
                yield from list(self._view.rows([item.resource]))
            except ViewError:
                finding = Finding("does-not-fit-view", item.resource_type, "error")
                refused.append(Outcome(item, "refused", "view", finding))

    def _write(self, part: Part, at: datetime, number: int) -> Written:
        digest = files_part.sha256(part.file)
        name = part.folder + self._named(self._options.name, part, digest[:12], at, number)
        if self._seal is None:
            self._put(name, files_part.chunks(part.file))
            return Written(name, part.file.tell(), part.records, digest)
        with TemporaryFile() as sealed:
            self._seal(part.file, sealed)
            self._put(f"{name}.pgp", files_part.chunks(sealed))
            return Written(f"{name}.pgp", sealed.tell(), part.records, files_part.sha256(sealed))

    def _named(self, pattern: str, part: Part, digest: str, at: datetime, number: int) -> str:
        return pattern.format(
            what=part.what,
            digest=digest,
            date=f"{at:%Y%m%d}",
            time=f"{at:%H%M%S}",
            number=number,
            extension=part.extension,
        )

    def _manifest(self, written: Sequence[Written], at: datetime) -> None:
        files = [{"name": one.name, "size": one.size, "records": one.records, "sha256": one.sha256} for one in written]
        data = json.dumps({"created": at.isoformat(timespec="seconds"), "files": files})
        with closing(Part(str(self._options.view or self._options.format), "json")) as part:
            part.add(data, len(files))
            digest = files_part.sha256(part.file)[:12]
            name = self._named(self._options.manifest or "", part, digest, at, 1)
            self._put(name, files_part.chunks(part.file))

    def _put(self, name: str, data: Iterator[bytes]) -> None:
        folder = self._options.path.rstrip("/")
        self._place.put(f"{folder}/{name}" if folder else name, data)
