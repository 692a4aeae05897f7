"""Records that stopped go through again when the map is mended, or are discarded; nothing is counted twice."""

from __future__ import annotations

import psycopg
import pytest

from tasks import work
from tasks.errors import ConfigError
from tasks.ledger import audit, claims, outbox
from tasks.ledger.db import connect
from tasks.ledger.quarantine import listed
from tasks.model import Conversion, Finding
from tasks.pipeline import Done
from tasks.replay.run import Pace, decrypted, discard, release
from tasks.replay.select import Selection

pytestmark = pytest.mark.usefixtures("sound")
PACE = Pace(records=2, pause=0, patience=0.1)
WHY = "the partner told us what it means"


def quiet(_outcome):
    """A caller that prints nothing."""


def broken(adt, mrn):
    """A message that the older map does not understand."""
    return adt(mrn=mrn, control=f"broken{mrn}", family="Unheard-of")


@pytest.fixture(autouse=True)
def older_map(site, monkeypatch):
    """The feed's map as it was: it refuses what the map of today understands."""
    made = work.pipeline(site.feed)
    run = made.run

    def refuse(frame):
        if b"Unheard-of" in frame.data:
            return Done("convert", Conversion(findings=[Finding("not-understood", "PID-5", "error")]))
        return run(frame)

    with monkeypatch.context() as older:
        older.setattr(made, "run", refuse)
        yield
    work.pipeline.cache_clear()


def mend(site):
    """Let the map of today take its place."""
    work.pipeline.cache_clear()


def quarantined(site):
    return sorted(row[0] for row in site.rows("select id from ledger.record where state = 'quarantined'"))


@pytest.fixture
def two_broken(site, adt):
    site.write("day.hl7", adt(mrn="1"), broken(adt, "2"), adt(mrn="3"), broken(adt, "4"), adt(mrn="5"))
    counts = site.run()
    assert (counts["received"], counts["published"], counts["quarantined"]) == (5, 3, 2)
    return quarantined(site)


def test_what_still_fails_stays_with_its_new_findings(site, two_broken):
    outcome = release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    assert outcome.counts["quarantined"] == 2
    assert quarantined(site) == two_broken
    assert sum(outcome.refused.values()) == 2
    assert site.counts()["quarantined"] == 2


def test_what_is_good_now_is_published_under_its_own_id_and_received_stays(site, two_broken):
    mend(site)
    outcome = release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    assert outcome.counts["published"] == 2
    counts = site.counts()
    assert (counts["received"], counts["published"], counts["quarantined"], counts["in_flight"]) == (5, 5, 0, 0)
    assert len(site.resources("Patient")) == 5
    assert site.rows(
        "select distinct record_id from fhir.resource where record_id = any(%s) order by 1", two_broken
    ) == [(record,) for record in two_broken]
    ended = site.rows("select ended_as, reason from ledger.quarantine")
    assert ended == [("released", WHY)] * 2
    with connect(site.url) as connection:
        assert listed(connection) == []
        assert [act.action for act in audit.acts(connection)] == ["quarantine-release"]


def test_a_release_gives_what_an_undisturbed_run_gives(site, two_broken):
    mend(site)
    release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    after = site.rows("select resource_type, id, deleted, resource::text from fhir.resource order by 1, 2")
    with psycopg.connect(site.url, autocommit=True) as connection:
        connection.execute(
            "truncate fhir.resource, fhir.history, fhir.contribution, ledger.delivery, ledger.batch, ledger.record, "
            "ledger.record_key, ledger.batch_slice, ledger.finding, ledger.quarantine, ledger.sighting "
            "restart identity cascade"
        )
    site.run()
    assert site.state() == after
    assert site.counts()["published"] == 5


def test_a_chosen_record_alone_is_released(site, two_broken):
    mend(site)
    release(Selection(records=(two_broken[1],)), "ada", WHY, PACE, quiet)
    assert quarantined(site) == two_broken[:1]


def test_a_group_is_released_by_its_place(site, two_broken):
    mend(site)
    assert not +release(Selection(location="PID-7"), "ada", WHY, PACE, quiet).counts
    assert release(Selection(code="not-understood", location="PID-5"), "ada", WHY, PACE, quiet).counts["published"] == 2


def test_unmapped_codes_are_counted_and_shown_for_a_reason_alone(site, adt):
    from tasks.ledger.quarantine import unmapped, unmapped_codes

    site.write("day.hl7", adt(mrn="1").replace("|F|", "|Zzyzx|"), adt(mrn="2").replace("|F|", "|Zzyzx|"))
    site.run()
    with connect(site.url) as connection:
        [row] = [row for row in unmapped(connection, site.feed) if row["location"].startswith("PID-8")]
        assert (row["codes"], row["times"]) == (1, 2)
        assert "Zzyzx" not in str(row)
        with pytest.raises(ConfigError, match="--reason"):
            unmapped_codes(connection, site.feed, "ada", "")
        shown = unmapped_codes(connection, site.feed, "ada", WHY)
        assert [row["first_record"] for row in shown if row["code"] == "Zzyzx"] == ["1:1"]
        [act] = audit.acts(connection)
    assert (act.action, act.subject, act.reason) == ("unmapped-codes", f"feed:{site.feed}", WHY)


def test_releasing_again_changes_nothing(site, two_broken):
    mend(site)
    release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    before = site.state()
    outcome = release(Selection(records=tuple(two_broken)), "ada", WHY, PACE, quiet)
    assert not +outcome.counts
    assert site.state() == before


def test_what_came_in_the_meantime_as_another_record_is_a_duplicate(site, adt, two_broken):
    mend(site)
    site.write("again.hl7", broken(adt, "2"))
    assert site.run()["published"] == 4
    outcome = release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    assert (outcome.counts["published"], outcome.counts["duplicate"]) == (1, 1)
    counts = site.counts()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (6, 5, 1)


def test_the_same_content_twice_in_quarantine_comes_through_once(site, adt, two_broken):
    site.write("again.hl7", broken(adt, "2"))
    assert site.run()["quarantined"] == 3
    mend(site)
    outcome = release(Selection(feed=site.feed), "ada", WHY, Pace(pause=0), quiet)
    assert (outcome.counts["published"], outcome.counts["duplicate"]) == (2, 1)


def test_discarded_records_end_with_a_reason(site, two_broken):
    assert discard(Selection(records=(two_broken[0],)), "ada", WHY, PACE) == 1
    counts = site.counts()
    assert (counts["received"], counts["quarantined"], counts["discarded"]) == (5, 1, 1)
    assert site.rows("select ended_as, reason from ledger.quarantine where record_id = %s", two_broken[0]) == [
        ("discarded", WHY)
    ]


def test_a_feed_that_a_run_works_on_is_left_alone(site, two_broken):
    with claims.claim(site.url, f"feed:{site.feed}", "run", 60), pytest.raises(claims.Busy):
        release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    assert quarantined(site) == two_broken


def test_a_record_is_decrypted_for_a_reason_that_the_trail_keeps(site, two_broken):
    assert b"||Unheard-of^Ada||" in decrypted(two_broken[0], "ada", WHY)
    with pytest.raises(ConfigError, match="--reason"):
        decrypted(two_broken[1], "ada", "")
    with connect(site.url) as connection:
        [act] = audit.acts(connection)
    assert (act.actor, act.action, act.reason) == ("ada", "decrypt", WHY)
    assert "Unheard-of" not in str(act)


def test_only_what_is_in_quarantine_is_decrypted(site, two_broken):
    with pytest.raises(ConfigError, match="not in quarantine"):
        decrypted(two_broken[0] - 1, "ada", WHY)


def answer(site, status):
    """Let the destination answer all that waits."""
    with connect(site.url) as connection:
        waiting = outbox.pending(connection, "ehr", 1000)
        said = [outbox.Answer(one.resource_type, one.id, one.version, status, "422") for one in waiting]
        outbox.settle(connection, "ehr", said)
    return len(said)


def test_what_a_destination_refused_is_sent_there_again(site, adt):
    site.configure((site.feeds / f"{site.feed}.yaml").read_text() + "route: [{to: [warehouse, ehr]}]\n")
    site.write("day.hl7", adt(mrn="1"))
    site.run()
    refused = answer(site, "refused")
    assert refused > 0
    assert site.counts()["quarantined"] == 1
    outcome = release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    assert outcome.counts["requeued"] == 1
    assert site.counts()["in_flight"] == 1
    assert answer(site, "refused") == refused
    assert site.counts()["quarantined"] == 1, "refused once more it is in quarantine once more"
    release(Selection(feed=site.feed), "ada", WHY, PACE, quiet)
    answer(site, "sent")
    assert site.counts()["published"] == 1
