"""A listener whose clock is ten minutes ahead and is put back: a repetition is one, and nothing is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from mllp_site import Site, message, msa

from tasks.listen import commit


def test_a_clock_that_is_off_and_goes_back_loses_nothing_and_takes_nothing_twice(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = {"by": timedelta(minutes=10)}

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) + ahead["by"]

    monkeypatch.setattr(commit, "datetime", Clock)
    sender = site.listen().sender()
    assert msa(sender.ask(message("C1", mrn="1"))) == ("AA", "C1")
    ahead["by"] = -timedelta(minutes=10)
    assert msa(sender.ask(message("C1", mrn="1"))) == ("AA", "C1")
    assert msa(sender.ask(message("C2", mrn="2"))) == ("AA", "C2")
    counts = site.take()
    assert (counts["received"], counts["published"], counts["duplicate"]) == (2, 2, 0)
