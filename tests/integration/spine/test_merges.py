"""Merged patients: the identity table leads to whoever holds today, nothing is rewritten, and a merge can be undone."""

from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from tasks.ledger import audit
from tasks.ledger.db import connect
from tasks.publish.identity import merges
from tasks.publish.store import unmerge
from tasks.publish.tables import refresh

pytestmark = pytest.mark.usefixtures("sound")


def merge(survivor: str, retired: str, when: str) -> str:
    """An A40: `retired` becomes `survivor`."""
    return (
        f"MSH|^~\\&|ADT|NORTH|SLUICE|HUB|{when}||ADT^A40^ADT_A39|M{survivor}{retired}{when}|P|2.5.1\r"
        f"EVN|A40|{when}\rPID|1||{survivor}^^^NORTHSIDE^MR||Okafor^Ada\rMRG|{retired}^^^NORTHSIDE^MR\r"
    )


def leads(site) -> dict[str, str]:
    return dict(site.rows("select patient_id, current_patient_id from mart.patient_identity"))


@pytest.fixture
def merged(site, adt):
    """Patient 2 was merged into 1, and 1 into 3."""
    site.write("day.hl7", *(adt(mrn=mrn, control=f"c{mrn}") for mrn in "123"))
    site.run()
    known = {row[0]: row[1] for row in site.rows("select mrn, id from core.patient")}
    site.write("m1.hl7", merge("1", "2", "20260310100000-0500"))
    site.write("m2.hl7", merge("3", "1", "20260310110000-0500"))
    site.run()
    return known


def test_a_merged_patient_leads_to_whoever_holds_today_through_every_merge(site, merged):
    assert leads(site) == {merged["2"]: merged["3"], merged["1"]: merged["3"]}
    found = site.rows("select patient_id, current_patient_id from mart.patient_search_index")
    assert dict(found) == dict.fromkeys(merged.values(), merged["3"])


def test_a_merge_rewrites_nothing_that_refers_to_the_retired_patient(site, merged):
    visits = site.rows("select patient_id from core.encounter")
    assert sorted(key for (key,) in visits) == sorted(merged.values())


def test_an_unmerge_restores_both_patients_and_later_merges_count_again(site, merged):
    with connect(site.url) as connection:
        assert len(merges(connection)) == 2
        done = unmerge(connection, merged["2"], "ada", "two people after all", refresh)
        assert merges(connection, merged["2"]) == []
        [act] = audit.acts(connection)
    assert (act.action, act.subject) == ("unmerge", f"Patient/{merged['2']}")
    assert done.changed == 2
    assert leads(site) == {merged["1"]: merged["3"]}
    found = dict(site.rows("select patient_id, current_patient_id from mart.patient_search_index"))
    assert found[merged["2"]] == merged["2"]
    [retired] = site.rows("select resource from fhir.resource where id = %s", merged["2"])
    assert "link" not in retired[0]
    assert "active" not in retired[0]
    site.write("late.hl7", merge("1", "2", "20260310103000-0500"))
    site.run()
    assert merged["2"] not in leads(site), "what happened before the un-merge does not come back"
    site.write("again.hl7", merge("1", "2", "20990310100000-0500"))
    site.run()
    assert leads(site)[merged["2"]] == merged["3"]


def test_a_circle_of_merges_ends(site, merged):
    site.write("m3.hl7", merge("2", "3", "20260310120000-0500"))
    site.run()
    assert set(leads(site)) == set(merged.values())


@pytest.mark.parametrize("turn", [1, -1])
def test_of_a_merge_and_its_contrary_the_later_stands_whatever_came_first(site, adt, turn):
    site.write("day.hl7", *(adt(mrn=mrn, control=f"c{mrn}") for mrn in "12"))
    site.run()
    known = {row[0]: row[1] for row in site.rows("select mrn, id from core.patient")}
    both = [("m1.hl7", merge("1", "2", "20260310100000-0500")), ("m2.hl7", merge("2", "1", "20260310110000-0500"))]
    for name, text in both[::turn]:
        site.write(name, text)
        site.run()
    assert leads(site) == {known["1"]: known["2"]}

    def kinds(mrn: str):
        [(active, links)] = site.rows(
            "select resource -> 'active', jsonb_path_query_array(resource, '$.link.type') from fhir.resource "
            "where id = %s",
            known[mrn],
        )
        return active, links

    assert kinds("1") == (False, ["replaced-by"])
    assert kinds("2") == (None, ["replaces"])
    with connect(site.url) as connection:
        unmerge(connection, known["1"], "ada", "two people after all", refresh)
    assert leads(site) == {}
    assert kinds("1") == kinds("2") == (None, [])


def test_only_a_merged_patient_can_be_unmerged(site, merged):
    with connect(site.url) as connection, pytest.raises(ConfigError, match="is not merged into another"):
        unmerge(connection, merged["3"], "ada", "a mistake", refresh)
    with connect(site.url) as connection:
        assert list(audit.acts(connection)) == []
