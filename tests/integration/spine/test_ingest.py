"""From a dropped file to the store: what a feed's records become, and what no crash or order of arrival may change."""

from __future__ import annotations

import gzip
import itertools
import zipfile

import pytest

from tasks import work
from tasks.errors import LeaseLost, Permanent
from tasks.feed import load
from tasks.ledger import claims
from tasks.ledger.db import connect
from tasks.process.land import Lander


def claim(site, run="run"):
    return claims.claim(site.url, f"feed:{site.feed}", run, 60)


def test_one_bad_record_stops_itself_alone(site, adt):
    site.write("day.hl7", adt(mrn="1"), "MSH|^~\\&|garbage\r", adt(mrn="2"))
    counts = site.run()
    assert (counts["received"], counts["published"], counts["quarantined"], counts["in_flight"]) == (3, 2, 1, 0)
    assert len(site.resources("Patient")) == 2
    [(record, stage, location)] = site.rows("select record_id & 4294967295, stage, location from ledger.quarantine")
    assert (record, stage) == (2, "parse")
    assert location.startswith("MSH")


def test_a_file_that_comes_again_under_another_name_is_a_duplicate(site, adt):
    site.write("a.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    before = site.state()
    site.write("b.hl7", adt(mrn="1"), adt(mrn="2"))
    counts = site.run()
    assert (counts["deliveries"], counts["received"], counts["published"], counts["duplicate"]) == (2, 4, 2, 2)
    assert site.rows("select state, duplicate_of from ledger.delivery order by id") == [
        ("read", None),
        ("duplicate", 1),
    ]
    assert site.state() == before


def test_a_message_that_comes_again_in_another_file_is_a_duplicate_record(site, adt):
    site.write("a.hl7", adt(mrn="1"))
    site.write("b.hl7", adt(mrn="1"), adt(mrn="2"))
    counts = site.run()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (3, 2, 1)


def test_a_corrected_file_retracts_what_only_its_predecessor_said(site, adt):
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2", family="Wrong"), adt(mrn="3"))
    site.run()
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2", family="Right"))
    site.run()
    assert site.rows("select id, corrects from ledger.delivery order by id") == [(1, None), (2, 1)]
    assert sorted(patient["name"][0]["family"] for patient in site.resources("Patient")) == ["Okafor", "Right"]
    deleted = site.rows("select count(*) from fhir.resource where resource_type = 'Patient' and deleted")
    assert deleted == [(1,)]
    assert site.rows("select count(*) from core.patient") == [(2,)]


def test_with_on_correction_add_the_predecessor_stands(site, adt):
    site.configure("on_correction: add\n" + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("day.hl7", adt(mrn="1"), adt(mrn="3"))
    site.run()
    site.write("day.hl7", adt(mrn="1"))
    site.run()
    assert len(site.resources("Patient")) == 2


def test_an_update_that_arrives_before_its_admission_is_not_overwritten_by_it(site, adt):
    site.write("1.hl7", adt("A08", when="20260309120000-0500", family="Newer"))
    site.run()
    site.write("2.hl7", adt("A01", when="20260309100000-0500", family="Older", phone="555^PRN^PH^^^212^5550100"))
    site.run()
    [patient] = site.resources("Patient")
    assert [name["family"] for name in patient["name"]] == ["Newer"]
    assert patient["telecom"], "what only the earlier message said is kept"


def test_any_order_of_arrival_gives_the_same_state(site, adt):
    said = [
        adt("A01", when="20260309100000-0500", family="One", phone="555^PRN^PH^^^212^5550100"),
        adt("A08", when="20260309110000-0500", family="Two", phone='""'),
        adt("A03", when="20260309120000-0500", family="Three"),
    ]
    states = []
    for number, order in enumerate(itertools.permutations(said)):
        for place, text in enumerate(order):
            site.write(f"{number}-{place}.hl7", text)
            site.run()
        living = site.rows(
            "select resource_type, id, resource from fhir.resource where resource_type in "
            "('Patient', 'Encounter') order by 1, 2"
        )
        states.append(living)
        _empty(site)
    assert len(states[0]) == 2
    assert all(state == states[0] for state in states)
    patient = next(row[2] for row in states[0] if row[0] == "Patient")
    assert patient["name"][0]["family"] == "Three"
    assert "telecom" not in patient, "a cleared field stays cleared"


def _empty(site):
    import psycopg

    with psycopg.connect(site.url, autocommit=True) as connection:
        connection.execute(
            "truncate fhir.resource, fhir.history, fhir.contribution, ledger.delivery, ledger.batch, ledger.record, "
            "ledger.record_key, ledger.batch_slice, ledger.finding, ledger.quarantine, ledger.sighting restart identity"
        )


def test_a_worker_that_was_only_asleep_cannot_publish_late(site, adt):
    site.write("day.hl7", adt())
    with claim(site) as old:
        site.land(old)
        staged = site.stage(old)
        site.rows("update ledger.claim set lease_until = now() - interval '1 second' returning 1")
        with claim(site, "another") as new:
            with pytest.raises(LeaseLost):
                site.publish(staged.batch_id, old)
            assert site.resources("Patient") == []
            assert site.publish(staged.batch_id, new).created > 0


def test_a_feed_is_worked_on_by_one_run_at_a_time(site):
    with claim(site), pytest.raises(claims.Busy), claim(site, "another"):
        pass
    with claim(site, "another"):
        pass


def test_a_batch_whose_staging_was_lost_in_a_crash_is_staged_again(site, adt):
    site.write("day.hl7", adt(mrn="1"), "MSH|^~\\&|garbage\r", adt(mrn="2"))
    with claim(site) as token:
        site.land(token)
        staged = site.stage(token)
        site.rows("delete from staging.resource returning 1")
        with pytest.raises(Permanent):
            site.publish(staged.batch_id, token)
    counts = site.run()
    assert (counts["published"], counts["quarantined"], counts["in_flight"]) == (2, 1, 0)


def test_publishing_twice_changes_nothing(site, adt):
    site.write("day.hl7", adt())
    with claim(site) as token:
        site.land(token)
        staged = site.stage(token)
        site.publish(staged.batch_id, token)
        before = site.state()
        assert site.publish(staged.batch_id, token).created == 0
    assert site.state() == before


def test_a_delivery_larger_than_a_batch_goes_on_where_the_last_one_ended(site, adt):
    site.write("day.hl7", *(adt(mrn=str(number)) for number in range(25)))
    counts = site.run(limit=10)
    assert (counts["received"], counts["published"], counts["in_flight"]) == (25, 25, 0)
    assert site.rows("select first_ordinal, last_ordinal from ledger.batch_slice order by 1") == [
        (1, 10),
        (11, 20),
        (21, 25),
    ]
    assert len(site.resources("Patient")) == 25


def test_a_crash_between_commit_and_archive_is_made_good_at_the_next_poll(site, adt, monkeypatch):
    site.configure(
        (site.feeds / f"{site.feed}.yaml").read_text().replace("stable_polls: 1}", "stable_polls: 1}, after: delete")
    )
    site.write("day.hl7", adt())

    with monkeypatch.context() as crash, claim(site) as token:
        crash.setattr(Lander, "_finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            site.land(token)
    assert (site.drop / "day.hl7").exists()
    counts = site.run()
    assert not (site.drop / "day.hl7").exists()
    assert (counts["deliveries"], counts["received"], counts["published"]) == (1, 1, 1)


def test_an_empty_file_is_a_delivery_of_nothing(site):
    site.write("empty.hl7")
    counts = site.run()
    assert (counts["deliveries"], counts["received"], counts["in_flight"]) == (1, 0, 0)


def test_the_invariant_of_every_delivery_is_what_its_records_say(site, adt):
    site.write("a.hl7", adt(mrn="1"), "MSH|^~\\&|garbage\r")
    site.write("b.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    assert site.rows("select * from ops.invariant") == []
    site.rows("delete from ledger.record where id = (select max(id) from ledger.record) returning 1")
    assert len(site.rows("select * from ops.invariant")) == 1


def test_a_zip_of_two_files_is_two_deliveries_and_comes_again_as_duplicates(site, adt):
    def packed(name):
        with zipfile.ZipFile(site.drop / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.hl7", adt(mrn="1"))
            archive.writestr("b.hl7", adt(mrn="2"))

    site.configure((site.feeds / f"{site.feed}.yaml").read_text().replace("1}}", '1}, match: "*"}'))
    packed("day.zip")
    assert site.run()["published"] == 2
    assert site.rows("select name, state from ledger.delivery order by name") == [
        ("day.zip", "read"),
        ("day.zip!a.hl7", "read"),
        ("day.zip!b.hl7", "read"),
    ]
    packed("again.zip")
    counts = site.run()
    assert (counts["published"], counts["duplicate"]) == (2, 2)
    assert len(site.resources("Patient")) == 2


def test_a_bomb_is_refused_with_a_finding_and_its_neighbours_are_taken(site, adt):
    site.configure((site.feeds / f"{site.feed}.yaml").read_text().replace("1}}", '1}, match: "*"}'))
    (site.drop / "bomb.hl7.gz").write_bytes(gzip.compress(b"\0" * 64_000_000))
    site.write("good.hl7", adt())
    counts = site.run()
    assert (counts["received"], counts["published"], counts["quarantined"]) == (2, 1, 1)
    assert site.rows("select stage, code from ledger.quarantine") == [("land", "archive-bomb")]
    assert site.rows("select state from ledger.delivery where name like 'bomb%%'") == [("refused",)]
    assert site.rows("select * from ops.invariant") == []
    assert site.run()["deliveries"] == 2, "it is not offered again"


def test_a_replay_does_not_bring_back_what_a_correction_took_away(site, adt):
    from tasks.replay.run import Pace, replay
    from tasks.replay.select import Selection

    site.write("day.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    site.write("day.hl7", adt(mrn="1"))
    site.run()
    replay(Selection(feed=site.feed), "operator", "a test", Pace(pause=0), lambda _: None, dry=False)
    assert len(site.resources("Patient")) == 1


def test_what_was_retracted_may_come_again_in_another_file(site, adt):
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    site.write("day.hl7", adt(mrn="1"))
    site.run()
    site.write("other.hl7", adt(mrn="2"), adt(mrn="3"))
    assert site.run()["quarantined"] == 0
    assert len(site.resources("Patient")) == 3


def test_a_correction_leaves_what_another_file_says_too(site, adt):
    site.write("one.hl7", adt(mrn="1"), adt(mrn="2"))
    site.run()
    site.write("two.hl7", adt(mrn="2"), adt(mrn="3"))
    site.run()
    site.write("one.hl7", adt(mrn="1"))
    site.run()
    assert len(site.resources("Patient")) == 3
    assert len(site.resources("Location")) > 0


def test_a_lander_that_was_only_asleep_does_not_write_over_what_its_successor_kept(site, adt):
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2"))
    with claim(site) as old:
        site.rows("update ledger.claim set lease_until = now() - interval '1 second' returning 1")
        with claim(site, "another") as new:
            site.land(new)
            [(kept,)] = site.rows("select object from ledger.delivery")
            with connect(site.url) as connection:
                sleeper = Lander(connection, load(site.feed), None, work.landing(), old)
                work.landing().write(site.feed, sleeper._object(1), [b"what the sleeper still had in its hands"])
    assert site.run()["published"] == 2
    assert site.rows("select object from ledger.delivery") == [(kept,)]


def test_merge_replace_takes_the_newest_message_whole(site, adt):
    site.configure("merge: replace\n" + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("1.hl7", adt("A01", when="20260309100000-0500", phone="555^PRN^PH^^^212^5550100"))
    site.run()
    site.write("2.hl7", adt("A08", when="20260309110000-0500", family="Newer"))
    site.run()
    [patient] = site.resources("Patient")
    assert patient["name"][0]["family"] == "Newer"
    assert "telecom" not in patient


def test_directory_entries_keep_one_word_a_slot_however_often_they_are_named(site, adt):
    for number in range(4):
        site.write(f"{number}.hl7", adt(when=f"2026030910000{number}-0500", mrn=str(number)))
        site.run()
    [(most,)] = site.rows(
        "select max(n) from (select count(*) as n from fhir.contribution where resource_type in "
        "('Location', 'Organization', 'Practitioner') group by resource_type, id) said"
    )
    assert most == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["in order", "out of order"])
@pytest.mark.parametrize(("event", "kind"), [("A29", "Patient"), ("A23", "Encounter")])
def test_a_person_or_a_visit_that_is_withdrawn_is_deleted_in_the_store(site, adt, event, kind, order) -> None:
    said = [adt("A01", when="20260309090000-0500"), adt(event, when="20260309100000-0500")]
    for number in order:
        site.write(f"{number}.hl7", said[number])
        site.run()
    assert site.rows("select deleted from fhir.resource where resource_type = %s", kind) == [(True,)]
