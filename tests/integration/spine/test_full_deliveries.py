"""What a full delivery no longer holds is retracted; what others say stands; too much that vanished holds it."""

from __future__ import annotations

import json

import pytest

ROSTER = """
source: {kind: directory, connection: drop, ready: {stable_polls: 1}, match: "*"}
format: fhir-ndjson
snapshot: full
vanished: {hold_above_percent: 50}
"""
CHANGES = ROSTER.replace("snapshot: full\nvanished: {hold_above_percent: 50}\n", "")


def people(*idents: str, **more) -> str:
    rows = [{"resourceType": "Patient", "id": ident, "active": True, **more} for ident in idents]
    return "".join(json.dumps(row) + "\n" for row in rows)


def there(site) -> list[str]:
    names = (one["identifier"][-1]["value"] for one in site.resources("Patient"))
    return sorted(names)


@pytest.fixture
def roster(site, sound):
    site.configure(ROSTER)
    return site


def test_what_a_full_delivery_no_longer_holds_is_retracted_as_history(roster):
    roster.write("monday", people("a", "b", "c"))
    roster.run()
    roster.write("tuesday", people("a", "c", "d"))
    roster.run()
    assert there(roster) == ["a", "c", "d"]
    assert roster.rows("select count(*) from fhir.history where not deleted") == [(1,)]
    roster.write("wednesday", people("b", "c", "d"))
    roster.run()
    assert there(roster) == ["b", "c", "d"]


def test_a_full_delivery_of_which_too_much_vanished_is_held_whole_until_somebody_decides(roster):
    from tasks.gate.held import held, release
    from tasks.ledger.db import connect

    roster.write("monday", people("a", "b", "c", "d", "e"))
    roster.run()
    roster.write("tuesday", people("a", "f"))
    counts = roster.run(limit=1)
    assert there(roster) == ["a", "b", "c", "d", "e"]
    assert counts["in_flight"] == 2
    with connect(roster.url) as connection:
        waiting = held(connection)
        assert {tuple(one["failed"]) for one in waiting} == {("records vanished share is within the feed's limit",)}
        for one in waiting:
            release(connection, one["batch"], "operator", "the ward was closed")
    roster.run()
    assert there(roster) == ["a", "f"]


def test_what_is_said_again_is_the_newer_records_also_where_analysts_read_it(roster):
    roster.write("monday", people("a", "b"))
    roster.run()
    roster.write("tuesday", people("a", "c"))
    roster.run()
    said = "select p.record_id >> 32, p.record_id = r.record_id, p.version_id from core.patient p "
    store = "join fhir.resource r on r.resource_type = 'Patient' and r.id = p.id"
    assert roster.rows(f"{said} {store}") == [(2, True, 1)] * 2
    counted = "select delivery_id, rows from ops.view_rows where name = 'patient' and rows > 0"
    assert roster.rows(counted) == [(2, 2)]


def test_a_rejected_full_delivery_takes_nothing_back(roster):
    from tasks.gate.held import held, reject
    from tasks.ledger.db import connect

    roster.write("monday", people("a", "b", "c"))
    roster.run()
    roster.write("tuesday", people("a"))
    roster.run()
    with connect(roster.url) as connection:
        for one in held(connection):
            reject(connection, one["batch"], "operator", "half a file")
    roster.run()
    assert there(roster) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_full_delivery_takes_nothing_back_and_is_told(roster, text):
    roster.write("monday", people("a", "b"))
    roster.run()
    roster.write("tuesday", text)
    roster.run()
    assert there(roster) == ["a", "b"]
    assert roster.rows("select code from ledger.quarantine") == [("empty-full-delivery",)]


def test_while_a_record_of_it_is_broken_a_full_delivery_takes_nothing_back(roster):
    roster.write("monday", people("a", "b", "c"))
    roster.run()
    roster.write("tuesday", people("a", "b") + "{nonsense\n")
    roster.run()
    assert there(roster) == ["a", "b", "c"]
    roster.write("wednesday", people("a", "b", active=False))
    roster.run()
    assert there(roster) == ["a", "b"]


def test_an_older_full_delivery_that_comes_again_is_the_newest_word(roster):
    for name, text in (("1", people("a", "b")), ("2", people("b", "c")), ("3", people("a", "b"))):
        roster.write(name, text)
        roster.run()
    assert there(roster) == ["a", "b"]
    roster.write("4", people("a", "b"))
    assert roster.run()["duplicate"] == 2
    assert there(roster) == ["a", "b"]


def test_files_of_one_archive_are_one_full_delivery(roster):
    import zipfile

    def packed(name, **files):
        with zipfile.ZipFile(roster.drop / name, "w") as archive:
            for inner, text in files.items():
                archive.writestr(f"{inner}.ndjson", text)

    packed("monday.zip", one=people("a", "b"), two=people("c", "d"))
    roster.run()
    assert there(roster) == ["a", "b", "c", "d"]
    packed("tuesday.zip", one=people("a", active=False), two=people("c", "d", active=False))
    roster.run()
    assert there(roster) == ["a", "c", "d"]


def test_what_two_files_say_in_the_same_words_stands_until_neither_says_it(site, sound):
    site.configure(CHANGES)
    site.write("one", people("a", "b"))
    site.run()
    site.write("two", people("b", "c"))
    site.run()
    site.write("one", people("a"))
    site.run()
    assert there(site) == ["a", "b", "c"]
    [(source,)] = site.rows(
        "select d.name from fhir.resource r join ledger.delivery d on d.id = r.record_id >> 32"
        " where r.resource->'identifier'->0->>'value' = 'b'"
    )
    assert source == "two"
    site.write("two", people("c"))
    site.run()
    assert there(site) == ["a", "c"]


def test_two_files_of_one_poll_that_say_the_same_are_two_that_say_it(site, sound):
    site.configure(CHANGES)
    site.write("one", people("a", "b"))
    site.write("two", people("b", "c"))
    site.run()
    for name, text, left in (("two", people("c"), ["a", "b", "c"]), ("one", people("a"), ["a", "c"])):
        site.write(name, text)
        site.run()
        assert there(site) == left


def test_a_fact_falls_back_on_the_other_words_of_another_file_and_goes_with_them(site, sound):
    site.configure(CHANGES)
    site.write("one", people("a", gender="female"))
    site.run()
    site.write("two", people("a", "c", gender="male"))
    site.run()
    site.write("two", people("c", gender="male"))
    site.run()
    assert there(site) == ["a", "c"]
    assert {one["gender"] for one in site.resources("Patient")} == {"female", "male"}
    site.write("one", people("d", gender="female"))
    site.run()
    assert there(site) == ["c", "d"]


def test_a_file_that_comes_again_after_its_correction_is_a_duplicate_and_the_correction_stands(site, sound):
    site.configure(CHANGES)
    for text in (people("a", "b"), people("b", "c"), people("a", "b")):
        site.write("day", text)
        site.run()
    assert there(site) == ["b", "c"]
    assert site.rows("select state, duplicate_of from ledger.delivery order by id")[2] == ("duplicate", 1)
    site.write("day", people("a", "d"))
    site.run()
    assert there(site) == ["a", "d"]
    assert site.rows("select corrects from ledger.delivery order by id")[3] == (2,)


def test_a_file_sent_under_two_names_stands_until_both_are_corrected(site, sound):
    site.configure(CHANGES)
    site.write("one", people("a", "b"))
    site.run()
    site.write("two", people("a", "b"))
    site.run()
    site.write("one", people("a"))
    site.run()
    assert there(site) == ["a", "b"]
    site.write("two", people("c"))
    site.run()
    assert there(site) == ["a", "c"]
    # what nobody's last word is any more is news when it comes again
    site.write("three", people("a", "b"))
    site.run()
    assert there(site) == ["a", "b", "c"]


@pytest.mark.parametrize(("said", "codes"), [(2, []), (3, ["manifest-record-count"])])
def test_a_manifests_count_is_held_against_what_was_read(site, sound, said, codes):
    site.configure(
        CHANGES.replace("ready: {stable_polls: 1}", 'ready: {manifest: "*.mft"}').replace('"*"', '"*.ndjson"')
    )
    site.write("day.ndjson", people("a", "b"))
    site.write("day.mft", json.dumps({"files": [{"name": "day.ndjson", "records": said}]}))
    for _ in range(3):
        site.run(limit=1)
    assert there(site) == ["a", "b"]
    assert [row[0] for row in site.rows("select code from ledger.quarantine")] == codes
