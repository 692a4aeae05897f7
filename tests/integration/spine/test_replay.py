"""Replay under a mended map: what the dry run says is what happens, nothing doubles, and the newest state wins."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from tasks.ledger import audit, claims, outbox
from tasks.ledger.db import connect
from tasks.model import record_id
from tasks.replay.difference import difference
from tasks.replay.run import Pace, discard, release, replay, send_again
from tasks.replay.select import Selection

pytestmark = pytest.mark.usefixtures("sound")
PACE = Pace(records=2, pause=0, patience=0.1)
WHY = "the map was mended"
FEED = """
source: {{kind: directory, connection: drop, ready: {{stable_polls: 1}}}}
format: csv
mapping: {0}
timezone: America/New_York
route: [{{to: [warehouse, ehr]}}]
"""
MAP = """
event_time: $at
columns:
  id: {required: true}
  name: {required: true}
  born: {type: date, format: "%m/%d/%Y"}
  weight: {type: decimal}
  at: {type: datetime, required: true}
resources:
  patient:
    type: Patient
    key: [$id]
    living: true
    elements:
      name: [{use: official, family: $name}]
      birthDate: $born
  weight:
    type: Observation
    key: [$id, $at]
    elements:
      status: final
      code: {text: weight}
      subject: {ref: patient}
      valueQuantity: {value: $weight}
"""
ROWS = (
    "id,name,born,weight,at\n"
    "1,Okafor,01/31/1980,70.5,2026-03-09T10:00:00\n"
    "2,Adams,31.01.1980,80.0,2026-03-09T10:00:00\n"
)
AUTO = "quarantine: {auto_release: true}\n"


class Desk:
    """A site whose feed is a CSV with a map of its own, and an operator at it."""

    def __init__(self, site, folder):
        self.site = site
        self.folder = folder
        self.maps = 0
        self.remap(MAP)

    def remap(self, text, more=""):
        """Let the feed have another map; a process reads a map's file once, so it is a new one."""
        self.maps += 1
        path = self.folder / f"people-{self.maps}.yaml"
        path.write_text(text)
        self.site.configure(FEED.format(path) + more)

    def replay(self, *, dry=False, **selection):
        """Replay and return the outcome with every chunk's changes."""
        changes = []
        outcome = replay(Selection(**selection), "ada", WHY, PACE, lambda chunk: changes.extend(chunk.changes), dry=dry)
        outcome.changes = changes
        return outcome

    def versions(self):
        return self.site.rows(
            "select resource_type, id, version_id, record_id, resource::text from fhir.resource order by 1, 2"
        )


@pytest.fixture
def desk(site, tmp_path):
    made = Desk(site, tmp_path)
    site.write("people.csv", ROWS)
    counts = site.run()
    assert (counts["received"], counts["quarantined"], counts["in_flight"]) == (2, 1, 1)
    assert confirm(site), "nothing waited for the destination"
    return made


def confirm(site):
    """Let the destination confirm everything that waits; return what it was sent."""
    with connect(site.url) as connection:
        waiting = outbox.pending(connection, "ehr", 1000)
        said = [outbox.Answer(one.resource_type, one.id, one.version, "sent", "200") for one in waiting]
        outbox.settle(connection, "ehr", said)
    return sorted((one.resource_type, one.version) for one in waiting)


GENDERED = MAP.replace("      birthDate: $born", "      birthDate: $born\n      gender: unknown")


def test_under_the_same_map_a_replay_changes_nothing(desk):
    before = desk.versions()
    for dry in (True, False):
        outcome = desk.replay(dry=dry, delivery=1)
        assert outcome.changes == []
        assert (outcome.counts["published"], outcome.counts["quarantined"]) == (1, 1)
    assert desk.versions() == before
    assert confirm(desk.site) == []


def test_the_dry_run_names_elements_and_changes_nothing(desk):
    before = desk.versions()
    desk.remap(GENDERED)
    outcome = desk.replay(dry=True, delivery=1)
    assert desk.versions() == before
    assert [(change.resource_type, change.record) for change in outcome.changes] == [("Patient", record_id(1, 1))]
    [change] = outcome.changes
    assert list(difference(change.before, change.after)) == [("gender", "added")]
    assert desk.site.rows("select count(*) from staging.resource") == [(0,)]


def test_what_the_dry_run_said_is_what_the_replay_does(desk):
    desk.remap(GENDERED)
    said = desk.replay(dry=True, delivery=1)
    before = {row[1]: row for row in desk.versions()}
    done = desk.replay(delivery=1)
    assert +done.counts == +said.counts
    changed = {row[1] for row in desk.versions() if row != before[row[1]]}
    assert changed == {change.id for change in said.changes}
    [patient] = desk.site.resources("Patient")
    assert patient["gender"] == "unknown"
    assert confirm(desk.site) == [("Patient", 2)]
    assert desk.site.rows("select distinct record_id from fhir.resource") == [(record_id(1, 1),)]


def test_a_replay_twice_is_a_replay_once(desk):
    desk.remap(GENDERED)
    desk.replay(delivery=1)
    before = desk.versions()
    desk.replay(delivery=1)
    assert desk.versions() == before


def test_a_replay_of_old_data_does_not_undo_what_came_later(desk):
    later = "id,name,born,weight,at\n1,Newer,01/31/1980,71.0,2026-03-10T10:00:00\n"
    desk.site.write("later.csv", later)
    desk.site.run()
    desk.remap(GENDERED)
    desk.replay(delivery=1)
    [patient] = desk.site.resources("Patient")
    assert (patient["name"][0]["family"], patient["gender"]) == ("Newer", "unknown")
    confirm(desk.site)


def test_what_the_map_no_longer_says_is_taken_back(desk):
    less = MAP.replace("      birthDate: $born\n", "").partition("  weight:\n    type")[0]
    less = less.replace('{type: date, format: "%m/%d/%Y"}', "{unused: nobody asks}")
    desk.remap(less.replace("{type: decimal}", "{unused: nobody asks}"))
    said = desk.replay(dry=True, records=(record_id(1, 1),))
    assert sorted((change.resource_type, change.after is None) for change in said.changes) == [
        ("Observation", True),
        ("Patient", False),
    ]
    desk.replay(records=(record_id(1, 1),))
    assert desk.site.resources("Observation") == []
    [patient] = desk.site.resources("Patient")
    assert "birthDate" not in patient
    assert confirm(desk.site) == [("Observation", 2), ("Patient", 2)]


def test_what_was_in_quarantine_comes_through_with_a_replay_of_its_code(desk):
    desk.remap(MAP.replace("%m/%d/%Y", "%d.%m.%Y"))
    outcome = desk.replay(code="not-a-date")
    assert outcome.counts["published"] == 1
    assert sum(outcome.counts.values()) == 1, "its neighbour did not have the finding"
    assert len(desk.site.resources("Patient")) == 2
    confirm(desk.site)
    assert desk.site.counts()["published"] == 2


@pytest.mark.parametrize("counted", ["records", "nothing"])
def test_of_what_went_on_with_a_finding_those_that_had_it_are_taken(site, adt, counted):
    """Neighbours do not; of a batch from before the ledger knew which records had it, all are."""
    odd = [adt(mrn=str(number)).replace("|F|", "|Q9|") for number in (2, 3, 5)]
    site.write("day.hl7", adt(mrn="1"), *odd[:2], adt(mrn="4"), odd[2])
    assert site.run()["published"] == 5
    assert ("unmapped-code", 3) in site.rows("select code, count::int from ledger.finding where location = 'PID-8'")
    if counted == "nothing":
        site.rows("update ledger.finding set records = null returning 1")
    for place, had in (("PID-8", 3), ("PV1-20.1", 5), ("PID-5", 0)):
        asked = Selection(code="unmapped-code", location=place, feed=site.feed)
        outcome = replay(asked, "ada", WHY, PACE, lambda _: None, dry=True)
        assert outcome.counts["published"] == (had if counted == "records" else 5 * bool(had))


def test_what_todays_map_refuses_stays_published_as_it_is(desk):
    before = desk.versions()
    desk.remap(MAP.replace("%m/%d/%Y", "%d.%m.%Y"))
    outcome = desk.replay(records=(record_id(1, 1),))
    assert outcome.counts["kept"] == 1
    assert dict(outcome.refused) == {("not-a-date", "born"): 1}
    assert desk.versions() == before


@pytest.mark.parametrize(
    ("selection", "seen"),
    [
        ({"feed": "northside.adt"}, 2),
        ({"feed": "northside.adt", "code": "another"}, 0),
        ({"delivery": 1}, 2),
        ({"delivery": 1, "location": "another"}, 0),
        ({"records": (record_id(1, 2),)}, 1),
    ],
)
def test_only_what_was_selected_is_seen(desk, selection, seen):
    outcome = desk.replay(dry=True, **selection)
    assert sum(outcome.counts.values()) == seen


def test_a_time_range_is_about_landing(desk):
    [(landed,)] = desk.site.rows("select landed_at from ledger.delivery")
    assert sum(desk.replay(dry=True, since=landed).counts.values()) == 2
    assert sum(desk.replay(dry=True, until=landed).counts.values()) == 0


def test_a_destination_is_sent_everything_again_and_no_version_is_made(desk):
    before = desk.versions()
    assert send_again(Selection(), "ehr", "ada", WHY, PACE, dry=True).total() == 2
    assert confirm(desk.site) == []
    assert dict(send_again(Selection(delivery=1), "ehr", "ada", WHY, PACE, dry=False)) == {
        "Observation": 1,
        "Patient": 1,
    }
    assert confirm(desk.site) == [("Observation", 1), ("Patient", 1)]
    assert desk.versions() == before
    assert desk.site.counts()["published"] == 1


@pytest.mark.parametrize(
    ("selection", "what"),
    [
        (Selection(delivery=99), "delivery 99"),
        (Selection(feed="northside.adr"), "feed northside.adr"),
        (Selection(records=(99 << 32 | 1,)), "record 99:1"),
        (Selection(mapping_version="v0"), "mapping version v0"),
    ],
)
def test_what_was_mistyped_is_told_and_nothing_is_noted(desk, selection, what):
    for press in (
        lambda: replay(selection, "ada", "why", PACE, lambda _: None, dry=False),
        lambda: release(selection, "ada", "why", PACE, lambda _: None),
        lambda: discard(selection, "ada", "why", PACE),
    ):
        with pytest.raises(ConfigError, match=f"{what} is not known"):
            press()
    assert desk.site.rows("select count(*) from ledger.audit") == [(0,)]


def test_the_trail_says_who_replayed_what_and_why(desk):
    desk.replay(dry=True, delivery=1)
    desk.replay(delivery=1)
    with connect(desk.site.url) as connection:
        found = [(act.action, act.subject, act.reason) for act in audit.acts(connection)]
    assert found == [(action, "delivery:1", WHY) for action in ("replay-dry-run", "replay", "replay-ended")]


def test_a_replay_waits_for_a_run_and_gives_up_politely(desk):
    before = desk.versions()
    desk.remap(GENDERED)
    with claims.claim(desk.site.url, f"feed:{desk.site.feed}", "run", 60), pytest.raises(claims.Busy):
        desk.replay(delivery=1)
    assert desk.versions() == before


def test_a_mended_map_releases_by_itself_where_the_feed_wants_it(desk):
    from tasks.feed import load
    from tasks.replay.run import mended, release_mended

    mended_map = MAP.replace("%m/%d/%Y", "%d.%m.%Y")
    desk.remap(mended_map)
    with connect(desk.site.url) as connection:
        assert mended(connection, load(desk.site.feed)) == [], "the feed did not ask for it"
        desk.remap(mended_map, AUTO)
        with claims.claim(desk.site.url, f"feed:{desk.site.feed}", "run", 60) as token:
            assert release_mended(desk.site.feed, token, "run")["published"] == 1
        assert mended(connection, load(desk.site.feed)) == []
    confirm(desk.site)
    assert desk.site.counts()["published"] == 2


def test_a_map_that_mends_nothing_is_tried_once(desk):
    from tasks.replay.run import release_mended

    desk.remap(GENDERED, AUTO)
    with claims.claim(desk.site.url, f"feed:{desk.site.feed}", "run", 60) as token:
        assert release_mended(desk.site.feed, token, "run")["quarantined"] == 1
        assert release_mended(desk.site.feed, token, "run").total() == 0
