"""What every destination keeps: one outcome for each thing, nothing lost, nothing twice, no value told."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pysequoia import Tsk, decrypt

from tasks.deliver.files import FilesDestination
from tasks.deliver.memory import MemoryDestination, MemoryOptions, box
from tasks.deliver.port import Destination, Item
from tasks.errors import ConfigError, SluiceError

KINDS = ["memory", "directory", "sftp", "s3"]
_numbers = itertools.count(1)


@dataclass
class Rig:
    """A destination's other side: `make` opens one, `held` returns what is there by key."""

    make: Callable[..., Destination]
    held: Callable[[], dict[str, Any]]
    names: Callable[[], list[str]]
    read: Callable[[str], bytes]


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    opened: list[Destination] = []
    made = _rig(request, tmp_path, opened)
    yield made
    for one in opened:
        one.close()


def _rig(request: pytest.FixtureRequest, tmp_path: Path, opened: list[Destination]) -> Rig:
    kind, number = request.param, next(_numbers)
    if kind == "memory":
        return _in_memory(f"conformance-{number}", opened)
    if kind == "s3":
        path, connection, names, read = _bucket(request.getfixturevalue("s3_server"), f"out-{number}")
    else:
        path, root = f"to{number}", tmp_path / "root"
        connection = {"root": str(root)}
        if kind == "sftp":
            server = request.getfixturevalue("sftp_server")
            root, connection = server.partner("northside"), server.connection("northside")
        root.mkdir(exist_ok=True)
        names, read = _folder(root / path)

    def make(**options: Any) -> Destination:
        given = FilesDestination.Options(kind=kind, path=path, **options)
        opened.append(FilesDestination(given, connection))
        return opened[-1]

    return Rig(make, lambda: _held(names(), read), names, read)


def _in_memory(name: str, opened: list[Destination]) -> Rig:
    def make(**_options: Any) -> Destination:
        opened.append(MemoryDestination(MemoryOptions(kind="memory", box=name), {}))
        return opened[-1]

    kept = box(name)
    return Rig(make, lambda: kept.held, lambda: sorted(kept.held), lambda _name: b"")


def _bucket(server: Any, bucket: str) -> tuple[str, dict[str, str], Callable[[], list[str]], Callable[[str], bytes]]:
    client = server.client()
    client.create_bucket(Bucket=bucket)

    def names() -> list[str]:
        found = client.list_objects_v2(Bucket=bucket).get("Contents", ())
        return sorted(one["Key"].removeprefix("to/") for one in found)

    def read(name: str) -> bytes:
        return bytes(client.get_object(Bucket=bucket, Key=f"to/{name}")["Body"].read())

    return "to", {**server.connection(""), "bucket": bucket}, names, read


def _folder(folder: Path) -> tuple[Callable[[], list[str]], Callable[[str], bytes]]:
    def names() -> list[str]:
        return sorted(str(one.relative_to(folder)) for one in folder.rglob("*") if one.is_file())

    return names, lambda name: (folder / name).read_bytes()


def _held(names: list[str], read: Callable[[str], bytes]) -> dict[str, Any]:
    """What a reader of all files knows: it goes by the version that every line has."""
    kept = [json.loads(line) for name in names if "deleted/" not in name for line in read(name).splitlines()]
    found: dict[str, Any] = {}
    for one in sorted(kept, key=lambda line: int(line["meta"]["versionId"])):
        del one["meta"]
        found[f"{one['resourceType']}/{one['id']}"] = one
    gone = [json.loads(line) for name in names if "deleted/" in name for line in read(name).splitlines()]
    return found | {entry["request"]["url"]: None for bundle in gone for entry in bundle["entry"]}


def patient(number: int, version: int = 1, **content: Any) -> Item:
    return Item("Patient", f"p{number}", version, {"resourceType": "Patient", "id": f"p{number}", **content})


def statuses(destination: Destination, items: list[Item]) -> list[str]:
    outcomes = list(destination.send(items))
    assert Counter(one.item.key for one in outcomes) == Counter(item.key for item in items)
    return [one.status for one in outcomes]


def test_everything_is_there_and_every_thing_has_one_outcome(rig: Rig) -> None:
    items = [patient(n, active=True) for n in range(50)] + [Item("Patient", "gone", 2, None)]
    assert set(statuses(rig.make(), items)) == {"sent"}
    assert rig.held() == {item.key: item.resource for item in items}


def test_the_same_things_sent_again_after_a_crash_are_there_once(rig: Rig) -> None:
    items = [patient(n) for n in range(5)]
    assert set(statuses(rig.make(), items)) == {"sent"}
    first = rig.held()
    assert set(statuses(rig.make(), items)) <= {"sent", "unchanged"}
    assert rig.held() == first


def test_nothing_to_send_leaves_nothing_behind(rig: Rig) -> None:
    assert statuses(rig.make(), []) == []
    assert rig.names() == []


def test_a_later_version_is_what_counts(rig: Rig) -> None:
    where = rig.make()
    statuses(where, [patient(1, active=False)])
    statuses(where, [patient(1, 2, active=True)])
    assert rig.held()["Patient/p1"] == patient(1, active=True).resource


UNSOUND = [
    ("Patient", "under_score", {}),
    ("Patient", "x/../../y", {}),
    ("Patient", "a" * 65, {}),
    ("Patient", "7", {"id": 7}),
    ("Patient", "p2", {"id": "another"}),
    ("patient", "low", {}),
    ("../../Patient", "out", {}),
    ("Patient{digest}", "out", {}),
]


def test_what_fhir_does_not_allow_as_a_type_or_id_is_refused_alone(rig: Rig) -> None:
    bad = [Item(kind, key, 1, {"resourceType": kind, "id": key, **said}) for kind, key, said in UNSOUND]
    found = {one.item.id: one for one in rig.make().send([*bad, patient(1), Item("../Patient", "gone", 2, None)])}
    assert found.pop("p1").status == "sent"
    assert {(one.status, one.finding and one.finding.code) for one in found.values()} == {("refused", "invalid-id")}
    assert rig.held() == {"Patient/p1": patient(1).resource}


FILES = [kind for kind in KINDS if kind != "memory"]
files = pytest.mark.parametrize("rig", FILES, indirect=True)


@files
def test_the_same_content_makes_the_same_name(rig: Rig) -> None:
    for _ in range(2):
        statuses(rig.make(name="{what}.{digest}.{extension}"), [patient(n) for n in range(5)])
    assert len(rig.names()) == 1


@files
@pytest.mark.parametrize("made", [{}, {"format": "hl7v2"}, {"format": "csv", "view": "patient"}], ids=str)
def test_a_file_is_named_after_when_its_newest_content_was_published(rig: Rig, made: dict[str, Any]) -> None:
    days = [datetime(2024, 3, day, 23, 30, tzinfo=timezone(timedelta(hours=-1))) for day in (9, 10, 8)]
    items = [replace(patient(n, identifier=[{"value": "7"}]), at=day) for n, day in enumerate(days)]
    for _ in range(2):
        statuses(rig.make(manifest="{date}.manifest.json", **made), items)
    *names, manifest = sorted(rig.names(), key=lambda name: "manifest" in name)
    assert [("20240311T003000" in name, manifest) for name in names] == [(True, "20240311.manifest.json")]
    assert made.get("format") != "hl7v2" or b"|20240311003000+0000|" in rig.read(names[0])


@files
def test_no_file_is_seen_half_written_and_a_long_one_is_divided(rig: Rig) -> None:
    where = rig.make(name="{what}-{number}.{extension}", rotate={"records": 20}, manifest="run.manifest.json")
    statuses(where, [patient(n) for n in range(50)])
    *parts, manifest = rig.names()
    assert parts == ["Patient-1.ndjson", "Patient-2.ndjson", "Patient-3.ndjson"]
    told = json.loads(rig.read(manifest))["files"]
    assert [(one["name"], one["records"]) for one in told] == list(zip(parts, [20, 20, 10], strict=True))
    assert [one["size"] for one in told] == [len(rig.read(name)) for name in parts]


@files
def test_csv_of_a_view_holds_its_columns_and_only_what_it_is_about(rig: Rig) -> None:
    where = rig.make(format="csv", view="patient", name="{what}-{number}.{extension}")
    other = Item("Organization", "o", 1, {"resourceType": "Organization", "id": "o"})
    found = statuses(where, [patient(1, gender="female", name=[{"family": 'O"Neil, x'}]), other])
    assert sorted(found) == ["sent", "unchanged"]
    [name] = rig.names()
    header, row, end = rig.read(name).decode().split("\r\n")
    assert {"id", "gender", "family"} <= set(header.split(","))
    assert ('"O""Neil, x"' in row, end) == (True, "")


@files
def test_parquet_of_a_view_is_read_back_as_it_was(rig: Rig, tmp_path: Path) -> None:
    from pyarrow import parquet

    quantity = {"value": Decimal("5.1"), "unit": "mmol/L"}
    one = {
        "resourceType": "Observation",
        "id": "o",
        "status": "final",
        "code": {"text": "K"},
        "valueQuantity": quantity,
    }
    statuses(rig.make(format="parquet", view="observation"), [Item("Observation", "o", 1, one)])
    [name] = rig.names()
    (tmp_path / "x.parquet").write_bytes(rig.read(name))
    [row] = parquet.read_table(tmp_path / "x.parquet").to_pylist()
    assert (row["id"], row["status"]) == ("o", "final")
    assert "5.1" in {str(value).rstrip("0") for value in row.values()}


@files
def test_messages_are_written_as_they_came_in_a_batch_that_counts_them(rig: Rig) -> None:
    messages = [f"MSH|^~\\&|A|B|C|D|2026||ADT^A08|{n}|P|2.5.1\rPID|1||{n}".encode() for n in range(3)]
    items = [Item("!record", str(n), 1, None, content=content) for n, content in enumerate([*messages, b"no message"])]
    outcomes = list(rig.make(format="hl7v2", send="pass", rotate={"records": 2}).send(items))
    assert Counter(one.status for one in outcomes) == {"sent": 3, "refused": 1}
    from mappings.engine.model import Profile
    from tasks.parse.hl7v2 import Hl7v2Format

    frames = [frame for name in rig.names() for frame in Hl7v2Format(Profile("x", "v2", "UTC")).split([rig.read(name)])]
    assert sorted(frame.data.rstrip(b"\r") for frame in frames) == messages
    assert not [frame.findings for frame in frames if frame.findings]


@files
def test_messages_are_written_from_the_store_in_a_batch_and_what_is_deleted_is_taken_back_in_it(rig: Rig) -> None:
    known = {"identifier": [{"value": "7"}], "name": [{"family": "Ek"}], "gender": "female"}

    class Held:
        def last(self, keys: Any) -> dict[str, Any]:
            return {"Patient/p2": {"resourceType": "Patient", "id": "p2", **known}}

        get = last

    made = rig.make(format="hl7v2", header={"facility": "N&S"})
    made.use(Held())  # type: ignore[attr-defined]
    items = [
        patient(1, **known),
        Item("Patient", "p2", 2, None),
        Item("Basic", "b", 1, {"resourceType": "Basic", "id": "b"}),
    ]
    outcomes = {one.item.id: (one.status, one.code) for one in made.send(items)}
    assert outcomes == {"p1": ("sent", "written"), "p2": ("sent", "written"), "b": ("unchanged", "not-told")}
    [name] = rig.names()
    text = rig.read(name).decode()
    assert text.startswith("FHS|^~\\&|SLUICE|N\\T\\S\rBHS|^~\\&|SLUICE|N\\T\\S\rMSH|")
    assert text.endswith("BTS|2\rFTS|1\r")
    assert [kind for kind in ("ADT^A08^ADT_A01", "ADT^A29^ADT_A21") if kind in text] == [
        "ADT^A08^ADT_A01",
        "ADT^A29^ADT_A21",
    ]


@files
def test_files_are_sealed_for_those_who_may_read_them(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from pysequoia import Cert

    key = Tsk.generate("Partner <partner@example.org>")
    monkeypatch.setenv("SLUICE_CONNECTION_PARTNER", json.dumps({"recipients": str(Cert.from_bytes(bytes(key)))}))
    statuses(rig.make(encrypt="partner"), [patient(1, active=True)])
    [name] = rig.names()
    assert name.endswith(".ndjson.pgp")
    assert b"Patient" not in rig.read(name)
    plain = decrypt(rig.read(name), decryptor=key.decryptor())
    assert json.loads(bytes(plain.bytes))["active"] is True


@files
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "csv"}, "needs a `view:`"),
        ({"view": "patients"}, "patient"),
        ({"name": "{what}.{extension}"}, "{digest} or {number}"),
        ({"name": "{day}{digest}"}, "{day} is not a part"),
        ({"send": "pass"}, "format: hl7v2"),
        ({"format": "hl7v2", "messages": ["ADT_A99"]}, "ADT_A08"),
        ({"snapshot": True}, "needs a `view:`"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_what_is_right(rig: Rig, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="error") as raised:
        rig.make(**options)
    assert said in str(raised.value)


@files
def test_a_path_that_leads_outside_is_refused(rig: Rig) -> None:
    with pytest.raises(SluiceError):
        list(rig.make(name="../../{digest}").send([patient(1)]))


def test_recipients_that_are_none_are_told_before_anything_is_written(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("SLUICE_CONNECTION_PARTNER", json.dumps({"recipients": "no key"}))
    with pytest.raises(ConfigError, match="recipients"):
        FilesDestination(FilesDestination.Options(kind="directory", encrypt="partner"), {"root": str(tmp_path)})
