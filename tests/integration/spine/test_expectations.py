"""What did not come, from the ledger: told once, listed as long as it is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.feed import load
from tasks.ledger import expectations
from tasks.ledger.db import connect

FEED = """
source: {kind: directory, connection: drop, match: "*.hl7", ready: {stable_polls: 1}}
format: hl7v2
timezone: UTC
expect: {by: "06:00", records: [2, 10]}
"""
NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)


@pytest.fixture
def expecting(site):
    """The site, with a feed that expects two to ten messages by six."""
    site.configure(FEED)
    with connect(site.url) as connection:
        expectations.begin(connection, site.feed, NOON - timedelta(hours=12))
    return site


def drop(site, adt, name: str, at: datetime, messages: int) -> None:
    """Let a file of so many messages come at a time."""
    site.write(name, *(adt(mrn=f"{name}{number}") for number in range(messages)))
    site.run()
    site.rows("update ledger.delivery set landed_at = %s where name = %s returning 1", at, name)


def found(site, now: datetime = NOON) -> list[tuple[str, int | None]]:
    with connect(site.url) as connection:
        return [(one.kind, one.records) for one in expectations.not_as_expected(connection, load(site.feed), now)]


def test_nothing_came(expecting):
    assert found(expecting) == [("late", None)]
    assert found(expecting, NOON - timedelta(hours=7)) == []
    assert found(expecting, NOON + timedelta(hours=6)) == [("missing", None)]


def test_what_came_counts_by_its_records(expecting, adt):
    drop(expecting, adt, "a.hl7", NOON - timedelta(hours=8), 1)
    assert found(expecting) == [("too-small", 1)]
    drop(expecting, adt, "b.hl7", NOON - timedelta(hours=7), 1)
    assert found(expecting) == []
    drop(expecting, adt, "c.hl7", NOON - timedelta(hours=7), 9)
    assert found(expecting) == [("too-large", 11)]


def test_a_duplicate_is_not_what_was_expected(expecting, adt):
    drop(expecting, adt, "a.hl7", NOON - timedelta(days=1, hours=7), 3)
    site = expecting
    (site.drop / "again.hl7").write_bytes((site.drop / "a.hl7").read_bytes())
    site.run()
    site.rows(
        "update ledger.delivery set landed_at = %s where name = 'again.hl7' returning 1", NOON - timedelta(hours=7)
    )
    assert found(site) == [("late", None)]


def test_what_was_due_before_the_feed_expected_anything_is_not_told(expecting):
    expecting.rows("update ledger.event set at = %s returning 1", NOON - timedelta(hours=5))
    assert found(expecting) == []


def test_what_could_not_be_told_is_not_noted(expecting, monkeypatch):
    from flows import expect as flow

    def unreachable(**_: Any) -> None:
        raise ConnectionError

    expecting.rows("update ledger.event set at = %s returning 1", datetime.now(UTC) - timedelta(days=2))
    monkeypatch.setattr(flow, "emit_event", unreachable)
    with pytest.raises(ConnectionError):
        flow.expect.fn()
    assert expecting.rows("select count(*) from ledger.event where kind in ('late', 'missing')") == [(0,)]


def test_status_late_lists_it_without_the_embedded_stack(expecting):
    expecting.rows("update ledger.event set at = %s returning 1", datetime.now(UTC) - timedelta(days=2))
    command = [sys.executable, "-c", "from deployments.cli.main import main; main()", "status", "--late"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert {row["feed"] for row in rows} == {expecting.feed}
    assert {row["kind"] for row in rows} <= {"late", "missing"}
    assert rows
    plain = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert plain.stdout.splitlines()[0].split()[:3] == ["feed", "day", "kind"]
