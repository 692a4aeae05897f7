"""What `sluice doctor` says beside the ledger's invariant."""

from __future__ import annotations

import pytest

from deployments.doctor import examine

# great-expectations imports what Python deprecates
pytestmark = [pytest.mark.usefixtures("sound"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_a_feed_whose_file_is_gone_while_its_batch_waits_is_named(site, adt):
    file = site.feeds / f"{site.feed}.yaml"
    site.configure("checks: hospital\n" + file.read_text())
    site.write("day.hl7", adt(mrn="1"), adt(mrn="2", family='""', control="nameless"))
    site.run()
    assert [row for row in examine() if not row["good"]] == []
    text = file.read_text()
    file.unlink()
    [wrong] = [row for row in examine() if not row["good"]]
    assert (wrong["check"], wrong["detail"]) == ("whatever has not ended is of a feed that has its file", site.feed)
    file.write_text(text)
