"""The MLLP listener on real sockets: what is acknowledged is kept, what is kept becomes one record."""

from __future__ import annotations

import pytest
from mllp_site import Site, block, field_of, message, msa

from tasks.errors import ConfigError


def test_a_message_is_acknowledged_after_it_is_kept_and_becomes_a_record(site: Site) -> None:
    sender = site.listen().sender()
    answer = sender.ask(message("C1"))
    assert msa(answer) == ("AA", "C1")
    assert site.rows("select size > 0, messages from ledger.segment") == [(True, 1)]
    counts = site.take()
    assert (counts["received"], counts["published"], counts["in_flight"]) == (1, 1, 0)
    assert site.rows(
        "select resource -> 'name' -> 0 ->> 'family' from fhir.resource where resource_type = 'Patient'"
    ) == [("Okafor",)]


def test_the_acknowledgement_turns_the_sender_round_and_names_the_trigger_event(site: Site) -> None:
    answer = site.listen().sender().ask(message("C1", msh18="UNICODE UTF-8"))
    said = [field_of(answer, "MSH", number) for number in (3, 4, 5, 6, 9, 11, 12, 18)]
    assert said == ["SLUICE", "HUB", "ADT", "NORTH", "ACK^A01^ACK", "P", "2.5.1", "UNICODE UTF-8"]
    assert "ERR" not in answer.decode()


def test_nothing_is_in_the_clear_on_the_disk(site: Site, tmp_path) -> None:
    running = site.listen()
    assert msa(running.sender().ask(message("C1", family="Findme")))[0] == "AA"
    running.stop()
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert files
    assert not any(b"Findme" in path.read_bytes() for path in files)


def test_several_blocks_in_a_packet_are_answered_in_their_order(site: Site) -> None:
    sender = site.listen().sender()
    controls = [f"C{number}" for number in range(50)]
    sender.write(b"".join(block(message(control, mrn=control)) for control in controls))
    assert [msa(sender.answer()) for _ in controls] == [("AA", control) for control in controls]
    assert site.take()["published"] == 50


def test_a_block_may_come_byte_by_byte(site: Site) -> None:
    sender = site.listen().sender()
    for byte in block(message("C1")):
        sender.write(bytes([byte]))
    assert msa(sender.answer()) == ("AA", "C1")
    assert site.take()["published"] == 1


def test_a_block_whose_carriage_return_is_missing_ends_all_the_same(site: Site) -> None:
    sender = site.listen().sender()
    sender.write(b"\x0b" + message("C1") + b"\x1c")
    assert msa(sender.answer()) == ("AA", "C1")
    sender.write(b"\r" + block(message("C2")))
    assert msa(sender.answer()) == ("AA", "C2")
    assert site.take()["published"] == 2


def test_a_block_whose_end_is_missing_ends_where_the_next_begins_and_bears_a_finding(site: Site) -> None:
    sender = site.listen().sender()
    sender.write(b"\x0b" + message("C1", mrn="1") + block(message("C2", mrn="2")))
    assert [msa(sender.answer()) for _ in range(2)] == [("AA", "C1"), ("AA", "C2")]
    assert site.take()["published"] == 2
    assert ("end-bytes-missing",) in site.rows("select code from ledger.finding")


def test_a_large_message_is_taken_whole(site: Site) -> None:
    sender = site.listen().sender()
    big = message("C1") + b"OBX|1|ED|DOC^Document||^application^pdf^Base64^" + b"QUJD" * (50 * 1024 * 256) + b"|||F\r"
    assert len(big) > 50 << 20
    assert msa(sender.ask(big)) == ("AA", "C1")
    [(size,)] = site.rows("select size from ledger.segment")
    assert size == len(big) + 3


def test_a_message_above_the_limit_is_rejected_and_the_next_connection_is_served(site: Site) -> None:
    site.configure("max_message: 4096")
    running = site.listen()
    sender = running.sender()
    answer = sender.ask(message("C1") + b"NTE|1||" + b"x" * 9000 + b"\r")
    assert msa(answer) == ("AR", "C1")
    assert field_of(answer, "ERR", 3).startswith("207")
    assert sender.is_closed()
    assert msa(running.sender().ask(message("C2"))) == ("AA", "C2")
    assert site.take()["received"] == 1


@pytest.mark.parametrize(
    ("header", "code", "place", "error"),
    [
        ({"msh9": ""}, "AR", "MSH^1^9", "101"),
        ({"msh12": "3.0"}, "AR", "MSH^1^12", "203"),
        ({"msh11": "T"}, "AR", "MSH^1^11", "202"),
        ({"msh9": "ZZZ^Z01"}, "AR", "MSH^1^9", "200"),
        ({"msh10": ""}, "AE", "MSH^1^10", "101"),
    ],
)
def test_a_header_that_is_not_acceptable_is_refused_with_its_place(site: Site, header, code, place, error) -> None:
    site.configure("processing: [P], messages: [ADT]")
    answer = site.listen().sender().ask(message("C1", **header))
    assert msa(answer)[0] == code
    assert field_of(answer, "ERR", 2) == place
    assert field_of(answer, "ERR", 3).split("^")[::2] == [error, "HL70357"]
    assert field_of(answer, "ERR", 4) == "E"
    assert site.rows("select 1 from ledger.segment") == []


def test_before_version_2_5_the_error_stands_in_the_first_field(site: Site) -> None:
    site.configure("messages: [ADT]")
    answer = site.listen().sender().ask(message("C1", msh12="2.3", msh9="ORU^R01"))
    assert field_of(answer, "MSH", 9) == "ACK^R01"
    assert field_of(answer, "ERR", 1) == "MSH^1^9^200&Unsupported message type&HL70357"


def test_what_is_no_message_is_rejected_and_the_connection_goes_on(site: Site) -> None:
    sender = site.listen().sender()
    assert msa(sender.ask(b"GET / HTTP/1.1")) == ("AR", "")
    assert msa(sender.ask(message("C1"))) == ("AA", "C1")


def test_a_peer_that_does_not_speak_mllp_is_hung_up_on(site: Site) -> None:
    sender = site.listen().sender()
    sender.write(b"GET / HTTP/1.1\r\n" * 2000)
    assert sender.is_closed()


@pytest.mark.parametrize(
    ("accept", "application", "codes"),
    [
        ("AL", "NE", ["CA"]),
        ("SU", "", ["CA"]),
        ("NE", "AL", ["AA"]),
        ("AL", "AL", ["CA", "AA"]),
        ("ER", "ER", []),
        ("NE", "NE", []),
    ],
)
def test_in_enhanced_mode_the_sender_says_what_it_wants_to_hear(site: Site, accept, application, codes) -> None:
    sender = site.listen().sender()
    sender.write(block(message("C1", msh15=accept, msh16=application)) + block(message("LAST", mrn="2")))
    answers = []
    while not answers or answers[-1] != ("AA", "LAST"):
        answers.append(msa(sender.answer()))
    assert answers[:-1] == [(code, "C1") for code in codes]
    assert site.take()["published"] == 2


@pytest.mark.parametrize(
    ("accept", "application", "codes"), [("AL", "NE", ["CR"]), ("ER", "", ["CR"]), ("NE", "ER", ["AR"]), ("SU", "", [])]
)
def test_in_enhanced_mode_a_refusal_is_a_commit_reject(site: Site, accept, application, codes) -> None:
    sender = site.listen().sender()
    bad = message("C1", msh12="3.0", msh15=accept, msh16=application)
    sender.write(block(bad) + block(message("LAST")))
    answers = []
    while not answers or answers[-1] != ("AA", "LAST"):
        answers.append(msa(sender.answer()))
    assert answers[:-1] == [(code, "C1") for code in codes]


def test_the_same_control_id_and_bytes_get_the_stored_acknowledgement_again(site: Site) -> None:
    running = site.listen()
    first = running.sender().ask(message("C1"))
    assert running.sender().ask(message("C1")) == first
    running.stop()
    assert site.listen().sender().ask(message("C1")) == first, "another process knows it too"
    counts = site.take()
    assert (counts["received"], counts["published"]) == (1, 1)


def test_the_same_message_twice_in_one_packet_is_one_record(site: Site) -> None:
    sender = site.listen().sender()
    sender.write(block(message("C1")) * 2)
    assert sender.answer() == sender.answer()
    assert site.take()["received"] == 1


def test_after_the_window_a_repetition_is_a_duplicate_record(site: Site) -> None:
    site.configure("window: 1h")
    sender = site.listen().sender()
    first = sender.ask(message("C1"))
    site.rows("update ledger.arrival set at = at - interval '2 hours' returning 1")
    assert sender.ask(message("C1")) != first
    counts = site.take()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (2, 1, 1)


def test_a_recycled_control_id_is_a_new_record_with_a_finding(site: Site) -> None:
    sender = site.listen().sender()
    assert msa(sender.ask(message("C1", mrn="1"))) == ("AA", "C1")
    assert msa(sender.ask(message("C1", mrn="2"))) == ("AA", "C1")
    assert site.take()["published"] == 2
    found = site.rows(
        "select code, location, count, first_record & 4294967295 from ledger.finding where code = 'control-id-recycled'"
    )
    assert found == [("control-id-recycled", "MSH-10", 1, 2)]


def test_where_control_ids_are_unique_other_bytes_are_refused(site: Site) -> None:
    site.configure("control_id: unique")
    sender = site.listen().sender()
    first = sender.ask(message("C1", mrn="1"))
    answer = sender.ask(message("C1", mrn="2"))
    assert msa(answer) == ("AE", "C1")
    assert field_of(answer, "ERR", 3).startswith("205")
    assert sender.ask(message("C1", mrn="1")) == first
    assert site.take()["received"] == 1


def test_a_batch_in_a_block_is_kept_and_its_messages_are_records(site: Site) -> None:
    batch = (
        b"BHS|^~\\&|ADT|NORTH|SLUICE|HUB|20260309||||B7\r"
        + message("C1", mrn="1")
        + message("C2", mrn="2")
        + b"BTS|2\r"
    )
    assert msa(site.listen().sender().ask(batch)) == ("AA", "B7")
    assert site.take()["published"] == 2


def test_what_stands_behind_an_end_byte_within_a_text_is_kept_and_quarantined_alone(site: Site) -> None:
    sender = site.listen().sender()
    assert msa(sender.ask(message("C1", mrn="1")))[0] == "AA"
    assert msa(sender.ask(message("C2", mrn="2") + b"NTE|1||before\x1cafter\r")) == ("AA", "C2")
    assert msa(sender.ask(message("C3", mrn="3")))[0] == "AA"
    counts = site.take()
    assert (counts["received"], counts["published"], counts["quarantined"]) == (4, 3, 1)


def test_what_comes_later_into_a_segment_is_read_on_from_where_reading_was(site: Site) -> None:
    running = site.listen()
    sender = running.sender()
    for number in range(5):
        sender.ask(message(f"C{number}", mrn=str(number)))
        assert site.take()["published"] == number + 1
    assert site.rows("select state from ledger.delivery") == [("landed",)]
    running.stop()
    assert site.take()["published"] == 5
    assert site.rows("select state, size > 0 from ledger.delivery") == [("read", True)]
    assert site.rows("select * from ops.invariant") == []


def test_reading_in_small_batches_loses_and_doubles_nothing(site: Site) -> None:
    sender = site.listen().sender()
    for number in range(23):
        sender.ask(message(f"C{number}", mrn=str(number)))
    counts = site.take(limit=5)
    assert (counts["received"], counts["published"], counts["duplicate"]) == (23, 23, 0)


def test_feeds_without_certificates_cannot_share_a_port(site: Site) -> None:
    site.configure(feed="eastside.adt")
    with pytest.raises(ConfigError, match="certificates"):
        site.listen("northside.adt", "eastside.adt")
