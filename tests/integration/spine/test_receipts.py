"""Receipts: every ended delivery gets one, once in effect, and no value of a record stands in it."""

from __future__ import annotations

import gzip
import json

import pytest

from infra.dev.s3 import S3Server
from infra.dev.sftp import SftpServer
from tasks import work
from tasks.errors import Permanent
from tasks.feed import load
from tasks.ledger import outbox, receipts
from tasks.ledger.db import connect
from tasks.receipt.give import Giver

FEED = """
source: {kind: directory, connection: drop, match: "*.hl7", ready: {stable_polls: 1}}
format: hl7v2
timezone: America/New_York
receipt: {path: /inbound/receipts}
"""
BROKEN = "MSH|^~\\&|garbage\r"


@pytest.fixture
def told(site):
    """The site, with a feed that gives receipts."""
    site.configure(FEED)
    return site


def give(site) -> int:
    feed = load(site.feed)
    source = work.source(feed)
    with connect(site.url) as connection:
        return Giver(connection, feed, source, work.landing(), work.pipeline(site.feed)).give()


def folder(site) -> dict[str, bytes]:
    place = site.drop / "inbound" / "receipts"
    return (
        {path.name: path.read_bytes() for path in sorted(place.iterdir()) if path.is_file()} if place.exists() else {}
    )


def said(site, name: str) -> dict:
    return json.loads(folder(site)[f"{name}.receipt.json"])


def test_a_receipt_says_what_was_taken_and_which_messages_were_not(told, adt):
    told.write("day.hl7", adt(mrn="1"), BROKEN, adt(mrn="2"), adt(mrn="1"))
    told.run()
    assert give(told) == 1
    receipt = said(told, "day.hl7.1")
    counts = {word: receipt[word] for word in ("received", "accepted", "refused", "duplicate", "filtered")}
    assert counts == {"received": 4, "accepted": 2, "refused": 1, "duplicate": 1, "filtered": 0}
    [refused] = receipt["refused_records"]
    assert (refused["ordinal"], refused["place"]) == (2, "message 2")
    assert all(place.startswith("MSH") for _, place in refused["findings"])
    assert [record["place"] for record in receipt["duplicate_records"]] == ["message 4"]
    assert receipt["name"] == "day.hl7"
    [(sha256,)] = told.rows("select encode(sha256, 'hex') from ledger.delivery")
    assert receipt["sha256"] == sha256
    text = folder(told)["day.hl7.1.receipt.txt"].decode()
    assert "4 received: 2 accepted, 1 refused, 1 duplicate" in text
    assert "message 2: not-hl7v2 at MSH" in text


def test_no_value_of_a_record_stands_in_any_file_of_a_receipt(told, adt):
    told.write("day.hl7", adt(mrn="77001", family="Zzyzx", control="C1", phone="^PRN^PH^^1^212^5550100"), BROKEN)
    told.run()
    give(told)
    files = folder(told)
    assert files
    for data in files.values():
        assert not any(value in data for value in (b"77001\r", b"77001^", b"Zzyzx", b"5550100", b"Ada", b"19800101"))


def test_a_receipt_is_given_once(told, adt):
    told.write("day.hl7", adt())
    told.run()
    assert (give(told), give(told)) == (1, 0)
    assert told.rows("select receipt_at is not null from ledger.delivery") == [(True,)]


def test_a_crash_between_writing_and_noting_writes_the_same_bytes_under_the_same_names(told, adt, monkeypatch):
    told.write("day.hl7", adt(mrn="1"), BROKEN)
    told.run()
    with monkeypatch.context() as crash:
        crash.setattr(receipts, "given", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            give(told)
    before = folder(told)
    assert before
    # what happens to the ledger meanwhile is for later receipts
    told.rows("update ledger.record set state = null where state = 'quarantined' returning 1")
    told.rows("update ledger.batch_slice set quarantined = 0 returning 1")
    assert give(told) == 1
    assert folder(told) == before


def test_a_crash_between_two_files_leaves_no_half_receipt_behind(told, adt, monkeypatch):
    told.write("day.hl7", adt(mrn="1"))
    told.run()
    written = []

    def put(self, name, data):
        if written:
            raise KeyboardInterrupt
        written.append(name)
        original(self, name, data)

    original = Giver._put
    with monkeypatch.context() as crash:
        crash.setattr(Giver, "_put", put)
        with pytest.raises(KeyboardInterrupt):
            give(told)
    first = folder(told)
    assert len(first) == 1
    assert give(told) == 1
    assert len(folder(told)) > 1
    assert first.items() <= folder(told).items()


def test_duplicates_and_corrections_name_what_they_repeat_or_correct(told, adt):
    told.write("a.hl7", adt(mrn="1"), BROKEN)
    told.run()
    told.write("b.hl7", adt(mrn="1"), BROKEN)
    told.run()
    told.write("a.hl7", adt(mrn="1"), adt(mrn="3"))
    told.run()
    assert give(told) == 3
    repeated = said(told, "b.hl7.2")
    assert (repeated["state"], repeated["received"], repeated["duplicate"], repeated["accepted"]) == (
        "duplicate",
        2,
        2,
        0,
    )
    assert (repeated["duplicate_of"]["delivery"], repeated["duplicate_of"]["name"]) == (1, "a.hl7")
    assert [record["place"] for record in repeated["refused_records"]] == ["message 2"]
    assert said(told, "a.hl7.3")["corrects"]["delivery"] == 1


def test_a_delivery_gets_its_receipt_only_when_its_destinations_have_confirmed(told, adt):
    told.configure(FEED + "route: [{to: [warehouse, ehr]}]\n")
    told.write("day.hl7", adt())
    told.write("again.hl7", adt())
    told.run()
    assert give(told) == 0
    waiting = told.rows("select resource_type, id, wanted from ledger.outbox where state = 'pending'")
    assert waiting
    with connect(told.url) as connection:
        outbox.settle(
            connection, "ehr", [outbox.Answer(kind, key, wanted, "sent", "200") for kind, key, wanted in waiting]
        )
        assert receipts.feeds_due(connection) == [told.feed]
    assert give(told) == 2
    [first] = [name for name in folder(told) if name.endswith(".1.receipt.json")]
    assert json.loads(folder(told)[first])["accepted"] == 1


def test_what_was_landed_before_the_feed_gave_receipts_gets_none(site, adt):
    site.write("old.hl7", adt(mrn="1"))
    site.run()
    site.configure(FEED)
    site.write("new.hl7", adt(mrn="2"))
    site.run()
    assert give(site) == 1
    assert {name.partition(".")[0] for name in folder(site)} == {"new"}


def test_receipts_are_never_taken_for_deliveries(told, adt):
    told.write("day.hl7", adt())
    told.run()
    give(told)
    assert told.run()["deliveries"] == 1


def test_one_receipt_that_cannot_be_written_stops_no_other(told, adt):
    told.write("a.hl7", adt(mrn="1"))
    told.write("b.hl7", adt(mrn="2"))
    told.run()
    place = told.drop / "inbound" / "receipts"
    place.mkdir(parents=True)
    (place / ".a.hl7.1.receipt.txt.part").symlink_to("elsewhere")
    with pytest.raises(Permanent):
        give(told)
    assert "b.hl7.2.receipt.json" in folder(told)
    (place / ".a.hl7.1.receipt.txt.part").unlink()
    assert give(told) == 1


def test_a_file_that_cannot_be_opened_gets_a_receipt_without_acknowledgements(told, adt):
    (told.drop / "day.hl7").write_bytes(gzip.compress(adt().encode())[:-9])
    told.run()
    assert give(told) == 1
    assert sorted(folder(told)) == ["day.hl7.1.receipt.json", "day.hl7.1.receipt.txt"]
    receipt = said(told, "day.hl7.1")
    assert (receipt["state"], receipt["received"], receipt["refused"]) == ("refused", 1, 1)
    assert receipt["refused_records"][0]["findings"]


@pytest.fixture(params=["sftp", "s3"])
def remote(request, tmp_path, monkeypatch):
    """A partner's side on a real server: what drops a file, what lists its receipts, and the feed's `source:`."""
    if request.param == "sftp":
        with SftpServer(tmp_path / "sftp") as server:
            home = server.partner("northside")
            (home / "outbound").mkdir()
            monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps(server.connection("northside")))

            def listed() -> dict[str, bytes]:
                return {path.name: path.read_bytes() for path in (home / "inbound" / "receipts").iterdir()}

            yield "sftp", lambda name, data: (home / "outbound" / name).write_bytes(data), listed
    else:
        with S3Server() as server:
            client = server.client()
            client.create_bucket(Bucket="drops")
            monkeypatch.setenv("SLUICE_CONNECTION_DROP", json.dumps(server.connection("drops")))

            def found() -> dict[str, bytes]:
                there = client.list_objects_v2(Bucket="drops", Prefix="inbound/receipts/").get("Contents", ())
                keys = [one["Key"] for one in there]
                return {
                    key.rpartition("/")[2]: client.get_object(Bucket="drops", Key=key)["Body"].read() for key in keys
                }

            yield "s3", lambda name, data: client.put_object(Bucket="drops", Key=f"outbound/{name}", Body=data), found


def test_receipts_come_back_on_the_connection_on_which_the_file_came(site, adt, remote):
    kind, drop, received = remote
    text = FEED.replace("kind: directory", f"kind: {kind}").replace(
        "connection: drop,", "connection: drop, path: /outbound,"
    )
    site.configure(text)
    drop("day.hl7", (adt(mrn="1", control="C1") + BROKEN).encode())
    site.run()
    assert give(site) == 1
    files = received()
    assert sorted(files) == [f"day.hl7.1.{end}" for end in ("ack.hl7", "receipt.json", "receipt.txt")]
    assert json.loads(files["day.hl7.1.receipt.json"])["refused"] == 1
    assert b"\rMSA|AA|C1\r" in files["day.hl7.1.ack.hl7"]
    assert b"\rBTS|2\r" in files["day.hl7.1.ack.hl7"]
