"""Erased records leave holes in landing; whatever the format, the records around them are read as they always were."""

from __future__ import annotations

import json

import pytest

from tasks import work
from tasks.erase.shred import shred
from tasks.feed import load
from tasks.ledger.db import connect
from tasks.model import record_id
from tasks.process.stage import Stager
from tasks.replay.read import read_again

pytestmark = pytest.mark.usefixtures("sound")
SECRET = "Zzyzx"
SLOW = pytest.mark.slow
CSV = """
event_time: $at
file: {{{file}}}
columns:
  id: {{required: true}}
  name: {{}}
  at: {{type: datetime, required: true}}
resources:
  patient: {{type: Patient, key: [$id], living: true, elements: {{name: [{{family: $name}}]}}}}
"""
WHEN = "2026-03-09T10:00:00Z"


def csv(*names):
    return "id,name,at\n" + "".join(f'{n},"{name}",{WHEN}\n' for n, name in enumerate(names, 1))


def patients(*names):
    return [{"resourceType": "Patient", "id": f"p{n}", "name": [{"family": name}]} for n, name in enumerate(names, 1)]


def ndjson(*names):
    return "".join(json.dumps(one) + "\n" for one in patients(*names))


def bundle(*names):
    entries = [{"fullUrl": f"urn:uuid:{n}", "resource": one} for n, one in enumerate(patients(*names), 1)]
    return json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}, indent=1)


def batch(*names):
    lines = ["FHS|^~\\&|A", "BHS|^~\\&|A"]
    for n, name in enumerate(names, 1):
        lines += [
            f"MSH|^~\\&|A|B|C|D|20260309100000-0500||ADT^A08^ADT_A01|{n}|P|2.5.1",
            f"EVN|A08|2026030910000{n}-0500",
        ]
        lines += [f"PID|1||{n}^^^NORTHSIDE^MR||{name}^Ada", "PV1|1|O"]
    return "\r".join([*lines, f"BTS|{len(names)}", "FTS|1"]) + "\r"


FORMATS = {
    "hl7v2": (batch, "v2", "", "timezone: America/New_York"),
    "csv": (csv, "csv", "", "timezone: America/New_York"),
    "csv in groups": (csv, "csv", "group: [id]", "timezone: America/New_York"),
    "fhir-ndjson": (ndjson, "v2", "", ""),
    "fhir-bundle": (bundle, "v2", "", ""),
}


@pytest.fixture(params=FORMATS)
def landed(request, site, tmp_path):
    """A delivery of five records, read in two batches, so that there is more than one place to read it from."""
    write, mapping, file, zone = FORMATS[request.param]
    if mapping == "csv":
        path = tmp_path / "people.yaml"
        path.write_text(CSV.format(file=file).replace("file: {}\n", ""))
        mapping = str(path)
    name = request.param.split(" ", 1)[0]
    site.configure(
        "source: {kind: directory, connection: drop, ready: {stable_polls: 1}}\n"
        f"format: {name}\nmapping: {mapping}\n{zone}\n"
    )
    names = ["One", SECRET, SECRET, "Four", SECRET]
    (site.drop / "day").write_text(write(*names), newline="")
    counts = site.run(limit=3)
    assert counts["received"] == 5
    return site


def frames(site, ordinals):
    stager = Stager(load(site.feed), work.landing(), work.pipeline(site.feed))
    with connect(site.url) as connection:
        found = read_again(connection, stager, [record_id(1, ordinal) for ordinal in ordinals])
        return [(record, frame.data, frame.location, frame.next) for record, _, frame in found]


@pytest.mark.parametrize("gone", [(2, 3, 5), pytest.param((1,), marks=SLOW), pytest.param((1, 2, 3, 4, 5), marks=SLOW)])
def test_what_stands_around_a_hole_is_read_as_before(landed, gone):
    site, left = landed, [ordinal for ordinal in range(1, 6) if ordinal not in gone]
    before = frames(site, left)
    with connect(site.url) as connection:
        connection.execute("insert into ledger.erasure (actor) values ('ada')")
        for ordinal in gone:
            connection.execute(
                "insert into ledger.erased_record (record_id, delivery_id, erasure_id) values (%s, 1, 1)",
                (record_id(1, ordinal),),
            )
        assert shred(connection, work.landing())["shredded"] == 1
        assert shred(connection, work.landing())["shredded"] == 0
    assert frames(site, left) == before
    [(name,)] = site.rows("select object from ledger.delivery")
    plain = b"".join(work.landing().read(name))
    assert (SECRET.encode() in plain) == (gone == (1,))
    assert [data for _, data, _, _ in frames(site, gone)] == [b""] * len(gone)
