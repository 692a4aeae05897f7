"""Landing's key changes while records are on their way: the store is that of a site on which nothing changed."""

from __future__ import annotations

import base64
import os

import pytest

from tasks import work
from tasks.ledger import claims
from tasks.replay.run import Pace, replay
from tasks.replay.select import Selection

pytestmark = pytest.mark.usefixtures("sound")


SLOW = pytest.mark.slow
NEW = f"new:{base64.b64encode(bytes(32)).decode()}"


def two_days(site, adt, rotate):
    """Two deliveries on their way; `rotate(moment)` may change the key at three of its moments."""
    site.write("day.hl7", adt(mrn="1"), "MSH|^~\\&|garbage\r", adt(mrn="2"))
    with claims.claim(site.url, f"feed:{site.feed}", "run", 60) as token:
        site.land(token)
        rotate("landed")
        site.stage(token, 2)
        rotate("staged")
        # what Postgres lost in a crash is read from landing again
        site.rows("delete from staging.resource returning 1")
    counts = site.run()
    assert (counts["published"], counts["quarantined"]) == (2, 1)
    rotate("published")
    site.write("more.hl7", adt("A08", mrn="1", family="Renamed", when="20260310100000-0500"))
    assert site.run()["published"] == 3
    return site.picture()


@pytest.mark.parametrize("when", [pytest.param("landed", marks=SLOW), "staged", pytest.param("published", marks=SLOW)])
def test_a_key_that_changes_on_the_way_changes_nothing(site, adt, monkeypatch, when):
    """Old data stays readable, also to a replay of it, and what comes later is sealed under the new key."""
    old = os.environ["SLUICE_LANDING_KEY"]
    undisturbed = two_days(site, adt, lambda _moment: None)
    site.empty()
    two_days(site, adt, lambda at: monkeypatch.setenv("SLUICE_LANDING_KEY", f"{NEW},{old}") if at == when else None)
    assert site.picture().differences(undisturbed) == []
    replay(Selection(feed=site.feed), "ada", "to see that all of it is read", Pace(pause=0), lambda _: None, dry=False)
    assert site.picture().differences(undisturbed) == []
    names = [row[0] for row in site.rows("select object from ledger.delivery order by id")]
    assert [b"".join(work.landing().read(name))[:3] for name in names] == [b"MSH", b"MSH"]
    assert [work.landing().key_of(name) for name in names] == ["test", "new"]
    families = {(one["name"][0]["family"], len(one["identifier"])) for one in site.resources("Patient")}
    assert families == {("Renamed", 1), ("Okafor", 1)}
