"""A partner's side of every way in, from handing over to the ledger: one feed, one warehouse."""

from __future__ import annotations

import itertools
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sources_rigs import DirectoryRig, MemoryRig, Rig, S3Rig, SftpRig

from tasks import work
from tasks.errors import Transient
from tasks.feed import load
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.model import Offer
from tasks.process.land import Lander
from tasks.source.port import Source, SourceState
from tests.integration.bulk.bulk_server import BulkServer
from tests.integration.http_intake import http_site
from tests.integration.mllp.mllp_site import Site, block, message, msa

_numbers = itertools.count(1)


class Way(ABC):
    """One way in; a delivery is a list of records, each known by its number."""

    feed = "northside.adt"
    form = "format: hl7v2\ntimezone: America/New_York\n"

    def __init__(self, site: Site) -> None:
        self.site = site
        site.feed = self.feed

    def describe(self, source: str) -> None:
        """Write the feed's file."""
        (self.site.feeds / f"{self.feed}.yaml").write_text(f"source: {source}\n{self.form}")
        work.pipeline.cache_clear()

    def record(self, number: int, family: str = "Okafor", more: str = "") -> bytes:
        """One record as this way carries it; `more` makes it longer."""
        note = f"NTE|1||{more}\r" if more else ""
        pid, _, rest = message(f"C{number}", mrn=str(number), family=family, msh18="UNICODE UTF-8").partition(b"PV1")
        return pid + note.encode() + b"PV1" + rest

    def delivery(self, *records: bytes) -> bytes:
        """Records as one delivery's bytes."""
        return b"".join(records)

    @abstractmethod
    def send(self, name: str, data: bytes) -> None:
        """Hand a delivery over, whole."""

    @abstractmethod
    def break_off(self, name: str, data: bytes) -> None:
        """Hand a delivery over so that its transfer breaks in the middle, once."""

    @abstractmethod
    def crash(self, name: str, data: bytes) -> None:
        """Hand a delivery over; what takes it dies when it is kept and nobody was told."""

    def poll(self) -> None:
        """Take what is there; a listener took it already."""
        return

    def families(self) -> dict[str, str]:
        """Take everything through the stages; return each patient's family name by record number."""
        self.poll()
        self.site.take()
        rows = self.site.rows("select resource from fhir.resource where resource_type = 'Patient' and not deleted")
        return {row[0]["identifier"][0]["value"]: row[0]["name"][0]["family"] for row in rows}

    def published(self) -> int:
        """Return how many records are in the store."""
        return self.site.take()["published"]

    def close(self) -> None:
        """Give up what is held."""
        return


class Polled(Way):
    """A way that is asked; `broken` and `dying` say what is to go wrong once."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.broken = self.dying = ""

    def poll(self) -> None:
        feed, source = load(self.feed), _Faulty(self.source(), self)
        try:
            with claims.claim(self.site.url, f"feed:{self.feed}", "run", 60) as token, connect(self.site.url) as one:
                Lander(one, feed, source, work.landing(), token, "run").land()
        finally:
            source.close()

    def source(self) -> Source:
        """Return the feed's source as a run builds it."""
        return work.source(load(self.feed))

    def break_off(self, name: str, data: bytes) -> None:
        self.send(name, data)
        self.broken = name
        with pytest.raises(Transient):
            self.poll()

    def crash(self, name: str, data: bytes) -> None:
        self.send(name, data)
        self.dying = name
        with pytest.raises(KeyboardInterrupt):
            self.poll()


class _Faulty:
    """A source whose transfer breaks, or whose process dies, where its way says so."""

    def __init__(self, source: Source, way: Polled) -> None:
        self._source, self._way = source, way
        self.poll, self.done, self.close = source.poll, source.done, source.close

    def read(self, offer: Offer, offset: int = 0) -> Iterator[bytes]:
        data = b"".join(self._source.read(offer, offset))
        if self._way.broken:
            self._way.broken = ""
            yield data[: len(data) // 2]
            raise Transient("the connection broke")
        yield data

    def finish(self, offer: Offer, state: SourceState) -> None:
        if self._way.dying:
            self._way.dying = ""
            raise KeyboardInterrupt
        self._source.finish(offer, state)


class FilesWay(Polled):
    """Files in a drop zone."""

    def __init__(self, site: Site, rig: Rig) -> None:
        super().__init__(site)
        self.rig = rig
        self.describe(f"{{kind: {rig.kind}, ready: {{stable_polls: 1}}, after: archive}}")

    def source(self) -> Source:
        return self.rig.source(after="archive")

    def send(self, name: str, data: bytes) -> None:
        self.rig.drop(name, data)

    def close(self) -> None:
        self.rig.close()


class BulkWay(Polled):
    """One export after another from a FHIR server, each of what was sent since."""

    form = "format: fhir-ndjson\n"

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.server = BulkServer()
        self.describe(f"{{kind: fhir-bulk, base_url: '{self.server.url}', interval: 0.01, backoff: 0.01}}")

    def record(self, number: int, family: str = "Okafor", more: str = "") -> bytes:
        said = {"resourceType": "Patient", "id": f"p{number}", "name": [{"family": family, "text": more or family}]}
        return json.dumps({**said, "identifier": [{"value": str(number)}]}, ensure_ascii=False).encode() + b"\n"

    def send(self, name: str, data: bytes) -> None:
        self.server.transaction_time = f"2024-05-01T10:00:{next(_numbers) % 60:02}Z"
        self.server.files = {}
        self.server.put(name, data, type="Patient")

    def close(self) -> None:
        self.server.stop()


class MllpWay(Way):
    """Messages to a listener; a delivery is a block for each message."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.describe("{kind: mllp}")
        self.running = site.listen(self.feed)

    def delivery(self, *records: bytes) -> bytes:
        return b"".join(map(block, records))

    def send(self, name: str, data: bytes) -> None:
        sender = self.running.sender()
        sender.write(data)
        answers = [msa(sender.answer())[0] for _ in range(data.count(b"\x0b"))]
        assert answers == ["AA"] * len(answers)

    def break_off(self, name: str, data: bytes) -> None:
        sender = self.running.sender()
        sender.write(data[: len(data) // 2])
        sender.close()

    def crash(self, name: str, data: bytes) -> None:
        """The acknowledgement is lost: the sender knows nothing."""
        self.send(name, data)


class HttpWay(Way):
    """Files that are uploaded."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.describe("{kind: http, open: true}")
        self.http = http_site.Site(site.url, site.feeds, None)  # type: ignore[arg-type]
        self.client = self.http.listen(self.feed)

    def send(self, name: str, data: bytes) -> None:
        assert self.client.post(f"/{self.feed}/files", files={"file": (name, data)}).status_code == 202

    def break_off(self, name: str, data: bytes) -> None:
        head = f"POST /{self.feed}/files HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.hl7"\r\n\r\n' + data[: len(data) // 2]
        with socket.create_connection((self.client.base_url.host, self.client.base_url.port or 0)) as sender:
            sender.sendall(head.encode() + part)
            sender.shutdown(socket.SHUT_WR)
            sender.settimeout(30)
            assert sender.recv(1) is not None

    def crash(self, name: str, data: bytes) -> None:
        """The answer is lost: the sender knows nothing."""
        self.send(name, data)

    def close(self) -> None:
        self.http.stop()


KINDS = (
    "memory",
    *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("directory", "sftp", "s3")),
    "fhir-bulk",
    "mllp",
    "http",
)
"""The sources of files keep what `test_sources.py` says, in every run; here they show the way to the store too."""


def way(kind: str, site: Site, folder: Path, request: pytest.FixtureRequest) -> Way:
    """Return the way in of a kind."""
    if kind == "fhir-bulk":
        return BulkWay(site)
    if kind == "mllp":
        return MllpWay(site)
    if kind == "http":
        return HttpWay(site)
    return FilesWay(site, _rig(kind, folder, request))


def _rig(kind: str, folder: Path, request: pytest.FixtureRequest) -> Rig:
    if kind == "memory":
        return MemoryRig()
    if kind == "directory":
        return DirectoryRig(folder / "drop")
    if kind == "s3":
        s3: Any = request.getfixturevalue("s3_server")
        return S3Rig(s3.client(), s3.connection(""), f"way-{next(_numbers)}")
    server: Any = request.getfixturevalue("sftp_server")
    return SftpRig(server.partner("northside") / f"way{next(_numbers)}", server.connection("northside"))


def deliveries(url: str) -> list[tuple[Any, ...]]:
    """Return name, state and size of what the ledger holds."""
    with psycopg.connect(url) as connection:
        return connection.execute("select name, state, size from ledger.delivery order by id").fetchall()
