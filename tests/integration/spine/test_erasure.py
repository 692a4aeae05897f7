"""A patient is erased everywhere, neighbours stay what they were, and nothing that is pressed later brings it back."""

from __future__ import annotations

import base64
import json
import os
from datetime import UTC, datetime

import psycopg
import pytest

from tasks import work
from tasks.deliver.drain import drain
from tasks.deliver.files import FilesDestination, FilesOptions
from tasks.deliver.mllp import MllpDestination, MllpOptions
from tasks.erase import refused
from tasks.erase.rewrap import rewrap
from tasks.erase.run import erase, finish, lift
from tasks.errors import ConfigError
from tasks.feed import load
from tasks.ledger import audit, erased, outbox, segments
from tasks.ledger.db import connect
from tasks.model import record_id
from tasks.replay.run import Pace, decrypted, release, replay
from tasks.replay.select import Selection

pytestmark = pytest.mark.usefixtures("sound")
PACE = Pace(records=100, pause=0, patience=1)
WHY = "the patient asked for it"
GONE, STAYS = "Zzyzx", "Okafor"
OF_THE_FILES = ("deliveries", "totals", "outbox", "unmapped")
"""What counts what came, and the deletions that destinations are owed."""
ROUTED = "route: [{to: [warehouse, ehr]}]\n"


def results(mrn, family, when="20260309110000-0500"):
    """A result of the patient, which speaks of an order and of an observation."""
    return "\r".join([
        f"MSH|^~\\&|LAB|NORTH|SLUICE|HUB|{when}||ORU^R01^ORU_R01|R{mrn}{when}|P|2.5.1",
        f"PID|1||{mrn}^^^NORTHSIDE^MR||{family}^Ada||19800101|F",
        f"OBR|1|O{mrn}|F{mrn}|2345-7^Glucose^LN|||{when[:14]}|||||||||||||||||F",
        f"OBX|1|NM|2345-7^Glucose^LN||100|mg/dL|70-110|N|||F|||{when[:14]}",
    ]) + "\r"  # fmt: skip


@pytest.fixture
def two(site, adt):
    """Two patients, each with a visit and a result, in two files that both speak of both."""
    site.configure((site.feeds / f"{site.feed}.yaml").read_text() + ROUTED)
    site.write("day.hl7", adt(mrn="1", family=GONE), adt(mrn="2", family=STAYS), adt("A08", mrn="1", family=GONE))
    site.run()
    site.write("lab.hl7", results("2", STAYS), results("1", GONE))
    site.run()
    with connect(site.url) as connection:
        said = [
            outbox.Answer(one.resource_type, one.id, one.version, "sent", "200")
            for one in outbox.pending(connection, "ehr", 1000)
        ]
        outbox.settle(connection, "ehr", said)
    return patient(site, GONE)


def patient(site, family):
    [(key,)] = site.rows(
        "select id from fhir.resource where resource_type = 'Patient' and resource #>> '{name,0,family}' = %s", family
    )
    return f"Patient/{key}"


def everywhere(site):
    """All that lies in Postgres and, decrypted, in landing."""
    tables = site.rows(
        "select format('%%I.%%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where c.relkind = 'r' and n.nspname in "
        "('ledger', 'fhir', 'staging', 'core', 'mart', 'ops', 'restricted')"
    )
    said = [str(site.rows(f"select t::text from {name} t")) for (name,) in tables]
    landing = work.landing()
    names = site.rows("select distinct object from ledger.delivery where object <> ''")
    return "\n".join(said) + "\n".join(str(b"".join(landing.read(name))) for (name,) in names)


def others(site, gone):
    """What the store says of all but one patient."""
    return [row for row in site.state() if gone not in row[3] and not row[2]]


def test_nothing_of_the_patient_is_left_and_the_others_are_what_they_were(site, two):
    assert GONE in everywhere(site)
    key = two.partition("/")[2]
    before = others(site, key)
    made = erase(two, "ada", WHY)
    assert made.counts["resources"].keys() >= {"Patient", "Encounter", "Observation", "DiagnosticReport"}
    assert made.landing["shredded"] == 2
    left = everywhere(site)
    assert GONE not in left
    assert STAYS in left
    assert [row for row in others(site, key) if row[0] != "Patient" or row[1] != key] == [
        row for row in before if row[1] not in {gone for (gone,) in erased_ids(site)}
    ]


def erased_ids(site):
    return site.rows("select id from ledger.erased_resource")


@pytest.mark.slow
def test_the_counts_say_that_an_operator_ended_the_records(site, two):
    erase(two, "ada", WHY)
    counts = site.counts()
    assert (counts["received"], counts["published"], counts["discarded"]) == (5, 2, 3)


def test_destinations_are_told_and_when_they_confirmed_nothing_remains(site, two):
    key = two.partition("/")[2]
    erase(two, "ada", WHY)
    with connect(site.url) as connection:
        waiting = outbox.pending(connection, "ehr", 1000)
        assert {one.resource_type for one in waiting} >= {"Patient", "Encounter", "Observation"}
        assert all(one.resource is None for one in waiting), "deletions, and nothing of what was there"
        [one] = erased.standing(connection)
        assert one["confirmations_left"] == len(waiting)
        assert one["ended_at"] is None
        said = [outbox.Answer(one.resource_type, one.id, one.version, "sent", "204") for one in waiting]
        outbox.settle(connection, "ehr", said)
        finish()
        [one] = erased.standing(connection)
        assert one["ended_at"] is not None
    assert key not in everywhere(site)


@pytest.mark.parametrize("by", ["send_again", "close"])
def test_a_deletion_that_a_destination_refuses_is_shown_and_an_operator_decides(site, two, by):
    erase(two, "ada", WHY)
    with connect(site.url) as connection:
        waiting = outbox.pending(connection, "ehr", 1000)
        said = [
            outbox.Answer(one.resource_type, one.id, one.version, "refused", "409", "conflict at Patient")
            for one in waiting
        ]
        outbox.settle(connection, "ehr", said)
        finish()
        [one] = erased.standing(connection)
        assert (one["refused_by"], one["confirmations_left"], one["ended_at"]) == (["ehr"], len(waiting), None)
        with pytest.raises(ConfigError, match="--reason"):
            getattr(refused, by)("ehr", "ada", " ")
        with pytest.raises(ConfigError, match="county has refused no deletion"):
            getattr(refused, by)("county", "ada", "its operator did it by hand")
        assert getattr(refused, by)("ehr", "ada", "its operator did it by hand") == len(waiting)
        if by == "send_again":
            again = outbox.pending(connection, "ehr", 1000)
            assert [one.key for one in again] == [one.key for one in waiting]
            outbox.settle(
                connection,
                "ehr",
                [outbox.Answer(one.resource_type, one.id, one.version, "sent", "204") for one in again],
            )
            finish()
        [one] = erased.standing(connection)
        assert one["ended_at"] is not None
        *_, act = audit.acts(connection)
        assert (act.action, act.subject) == (f"erase-{by.replace('_', '-')}", "destination:ehr")
        assert act.counts == {"deletions": len(waiting)}
    assert two.partition("/")[2] not in everywhere(site)


def test_a_folder_gets_the_deletions_and_a_receiver_of_messages_says_that_it_cannot_be_told(site, tmp_path, adt):
    folder = tmp_path / "out"
    folder.mkdir()
    site.configure((site.feeds / f"{site.feed}.yaml").read_text() + "route: [{to: [warehouse, folder, ris]}]\n")
    site.write("day.hl7", adt(mrn="1", family=GONE), adt(mrn="2", family=STAYS))
    site.run()
    directory = FilesDestination(FilesOptions(kind="directory", connection="out"), {"root": str(folder)})
    nobody = {"host": "127.0.0.1", "port": "9"}
    receiver = MllpDestination(MllpOptions(kind="mllp", connection="ris", attempts=1), nobody)
    with connect(site.url) as connection:
        drain(connection, "folder", directory)
        assert GONE in "".join(path.read_text() for path in folder.iterdir() if path.is_file())
        key = patient(site, GONE).partition("/")[2]
        erase(f"Patient/{key}", "ada", WHY)
        drain(connection, "folder", directory)
        told = "".join(path.read_text() for path in folder.rglob("deleted/*"))
        assert f'"Patient/{key}"' in told
        assert GONE not in told
        drain(connection, "ris", receiver)
        finish()
        [one] = erased.standing(connection)
        assert one["refused_by"] == ["ris"]
        refused.close("ris", "ada", "it keeps visits by law")
        [one] = erased.standing(connection)
        assert one["ended_at"] is not None
    assert key not in everywhere(site)


def test_messages_that_were_to_be_sent_on_are_sent_no_more_and_nothing_waits_for_them(site, tmp_path, monkeypatch, adt):
    (tmp_path / "ris.yaml").write_text("kind: mllp\nconnection: ris\nsend: pass\n")
    monkeypatch.setenv("SLUICE_DESTINATIONS", str(tmp_path))
    site.configure((site.feeds / f"{site.feed}.yaml").read_text() + "route: [{to: [warehouse, ris]}]\n")
    site.write("day.hl7", adt(mrn="1", family=GONE))
    site.write("more.hl7", adt("A08", mrn="1", family=GONE), adt(mrn="2", family=STAYS))
    site.run()
    with connect(site.url) as connection:
        [first, *_] = outbox.pending(connection, "ris", 10)
        outbox.settle(connection, "ris", [outbox.Answer(first.resource_type, first.id, first.version, "sent", "AA")])
        made = erase(patient(site, GONE), "ada", WHY)
        assert any(line.startswith("ris: 1 messages went there as they came") for line in made.beyond("test"))
        left = outbox.pending(connection, "ris", 10)
        assert [one.record for one in left] == [record_id(2, 2)]
        outbox.settle(connection, "ris", [outbox.Answer(one.resource_type, one.id, 1, "sent", "AA") for one in left])
    assert site.counts()["in_flight"] == 0


def test_what_said_nothing_new_is_erased_too(site, adt, two):
    """Its bytes stand in landing, and nothing in the store leads to them."""
    site.write("same.hl7", adt("A08", mrn="1", family=GONE, when="20260101100000-0500", control="older"))
    site.run()
    erase(two, "ada", WHY)
    assert GONE not in everywhere(site)


def test_an_open_segment_is_sealed_under_the_new_key_when_it_is_closed(site, two, monkeypatch):
    """A listener appends while the key is changed: its segment waits, and nothing in it is lost."""
    name, segment = work.landing().segment(site.feed, "segment")
    new = base64.b64encode(bytes(32)).decode()
    with connect(site.url) as connection:
        delivery = segments.open_segment(connection, load(site.feed), "segment", name)

        def arrive(data):
            segment.add(data)
            assert segments.commit(connection, {delivery: segment.commit()}, [], datetime.now(UTC)) == {delivery}

        arrive(b"first ")
        monkeypatch.setenv("SLUICE_LANDING_KEY", f"new:{new},{os.environ['SLUICE_LANDING_KEY']}")
        found = rewrap("ada", WHY)
        assert (found.rewrapped, found.waits, found.free) == (2, 1, [])
        arrive(b"second")
        segment.close()
        segments.close(connection, delivery)
    found = rewrap("ada", WHY)
    assert (found.rewrapped, found.waits, found.free) == (1, 0, ["test"])
    monkeypatch.setenv("SLUICE_LANDING_KEY", f"new:{new}")
    assert b"".join(work.landing().read(name)) == b"first second"


def test_a_replay_of_everything_does_not_bring_it_back(site, adt, two):
    """What is left is what a site has to which nobody ever spoke of the patient."""
    erase(two, "ada", WHY)
    before = site.state()
    outcome = replay(Selection(feed=site.feed), "ada", WHY, PACE, lambda _: None, dry=False)
    assert outcome.counts["published"] == 2
    assert site.state() == before
    assert GONE not in everywhere(site)
    gone = {f"{kind}/{key}" for kind, key in site.rows("select resource_type, id from ledger.erased_resource")}
    left = site.picture(*OF_THE_FILES)
    site.empty()
    site.write("day.hl7", adt(mrn="2", family=STAYS))
    site.run()
    site.write("lab.hl7", results("2", STAYS))
    site.run()
    never = site.picture(*OF_THE_FILES)
    assert never.size > 10
    assert [line for line in left.differences(never) if not any(name in line for name in gone)] == []


def test_the_same_file_again_and_the_same_messages_in_another_do_not_bring_it_back(site, adt, two):
    erase(two, "ada", WHY)
    before = site.state()
    site.write("copy.hl7", adt(mrn="1", family=GONE), adt(mrn="2", family=STAYS), adt("A08", mrn="1", family=GONE))
    site.write("other.hl7", results("1", GONE), adt("A08", mrn="2", family=STAYS, control="new"))
    counts = site.run()
    assert (counts["received"], counts["filtered"]) == (10, 1), "three duplicates, one that nobody may know again"
    finish()
    assert GONE not in everywhere(site)
    assert [row for row in site.state() if row in before] == before or len(site.state()) >= len(before)
    assert [row for row in site.state() if GONE in row[3]] == []


@pytest.mark.slow
def test_records_around_the_erased_are_read_again_as_they_were(site, two):
    from tasks.feed import load
    from tasks.process.stage import Stager
    from tasks.replay.read import read_again

    def read():
        stager = Stager(load(site.feed), work.landing(), work.pipeline(site.feed))
        with connect(site.url) as connection:
            found = read_again(connection, stager, [record_id(1, 2), record_id(2, 1)])
            return [(record, frame.data, frame.location, frame.next.ordinal) for record, _, frame in found]

    before = read()
    erase(two, "ada", WHY)
    assert read() == before


def test_what_is_staged_and_not_published_is_taken_out_too(site, adt, two):
    from tasks.ledger import claims

    site.write("late.hl7", adt("A08", mrn="1", family=GONE, control="late"), adt(mrn="3", family="Third"))
    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
        site.land(token)
        staged = site.stage(token)
        erase(two, "ada", WHY)
        assert staged.batch_id is not None
        site.publish(staged.batch_id, token)
    assert GONE not in everywhere(site)
    assert patient(site, "Third")


@pytest.mark.slow
def test_records_in_quarantine_are_found_by_reading_them(site, adt, two):
    broken = adt(mrn="1", family=GONE, control="broken").replace("|19800101|", "|nobody knows|")
    site.write("broken.hl7", broken, adt(mrn="2", family=STAYS, control="fine"))
    before = site.run()["quarantined"]
    made = erase(two, "ada", WHY)
    assert GONE not in everywhere(site)
    if before:
        assert made.searched.found == (record_id(3, 1),)
        with pytest.raises(ConfigError):
            decrypted(record_id(3, 1), "ada", WHY)
        release(Selection(feed=site.feed), "ada", WHY, PACE, lambda _: None)
    assert GONE not in everywhere(site)


@pytest.mark.slow
def test_an_unreadable_record_is_told_and_erased_where_an_operator_names_it(site, two):
    site.write("torn.hl7", f"MSH|^~\\&|A\rPID|1||1^^^NORTHSIDE^MR||{GONE}\r")
    assert site.run()["quarantined"] == 1
    made = erase(two, "ada", WHY, dry=True)
    assert made.searched.unread == (record_id(3, 1),)
    assert any("3:1" in line for line in made.beyond("test"))
    erase(two, "ada", WHY, records=made.searched.unread)
    assert GONE not in everywhere(site)
    assert site.counts()["quarantined"] == 0


@pytest.mark.slow
def test_a_dry_run_changes_nothing_but_the_trail(site, two):
    before, all_of_it = site.state(), site.counts()
    made = erase(two, "ada", WHY, dry=True)
    assert made.counts["records"] == 3
    assert site.state() == before
    assert site.counts() == all_of_it
    assert GONE in everywhere(site)


@pytest.mark.slow
def test_the_trail_says_that_and_why_and_not_who(site, two):
    erase(two, "ada", WHY)
    with connect(site.url) as connection:
        [act] = audit.acts(connection)
    assert (act.actor, act.action, act.subject, act.reason) == ("ada", "erase", "erasure:1", WHY)
    assert two.partition("/")[2] not in str(act)
    with pytest.raises(ConfigError, match="--reason"):
        erase(patient(site, STAYS), "ada", " ")


@pytest.mark.slow
def test_what_merges_made_one_person_is_erased_as_one(site, adt, two):
    site.write(
        "merge.hl7", adt("A40", mrn="1", family=GONE, when="20260310100000-0500", extra=("MRG|9^^^NORTHSIDE^MR",))
    )
    site.run()
    made = erase(two, "ada", WHY)
    assert len(made.patients) == 2
    assert GONE not in everywhere(site)


@pytest.mark.slow
def test_a_new_visit_comes_through_where_that_was_allowed(site, adt, two):
    erase(two, "ada", WHY, allow_new=True)
    site.write("old.hl7", adt("A08", mrn="1", family=GONE, control="again"))
    site.write("new.hl7", adt("A01", mrn="1", family="Renewed", when="20990101100000-0500"))
    site.run()
    finish()
    assert GONE not in everywhere(site)
    assert patient(site, "Renewed") == two


@pytest.mark.slow
def test_a_lifted_erasure_lets_the_patient_be_published_again(site, adt, two):
    erase(two, "ada", WHY)
    site.write("one.hl7", adt("A08", mrn="1", family=GONE, control="one"))
    assert site.run()["filtered"] == 1
    lift(two, "ada", "the patient came back")
    site.write("two.hl7", adt("A08", mrn="1", family=GONE, control="two"))
    site.run()
    assert patient(site, GONE) == two
    with pytest.raises(ConfigError, match="nobody"):
        lift(two, "ada", "again")


def test_an_erasure_that_broke_off_before_landing_is_finished_by_whoever_comes(site, two, monkeypatch):
    from tasks.erase import run
    from tasks.landing.store import Landing

    def full(*_args, **_kwargs):
        raise ConfigError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Landing, "rewrite", full)
        with pytest.raises(ConfigError):
            erase(two, "ada", WHY)
    assert GONE in everywhere(site), "landing still has it"
    assert run.finish()["shredded"] == 2
    assert GONE not in everywhere(site)
    assert run.finish()["shredded"] == 0


@pytest.mark.slow
def test_an_unknown_patient_is_refused(site, two):
    for name in ("Patient/none", "none", "Observation/1"):
        with pytest.raises(ConfigError, match="no patient"):
            erase(name, "ada", WHY)


def test_prefects_words_and_output_carry_no_value(site, two, capsys, monkeypatch):
    from deployments.cli.main import app

    monkeypatch.setenv("SLUICE_ACTOR", "ada")
    app(["erase", two, "--reason", WHY, "--dry-run"], standalone_mode=False)
    app(["erase", two, "--reason", WHY, "--json"], standalone_mode=False)
    app(["erase"], standalone_mode=False)
    said = capsys.readouterr().out
    assert GONE not in said
    [line] = [line for line in said.splitlines() if line.startswith('{"number"')]
    assert json.loads(line)["patients"] == [two.partition("/")[2]]
    with psycopg.connect(site.url, autocommit=True) as connection:
        assert connection.execute("select count(*) from ledger.erasure").fetchone() == (1,)
