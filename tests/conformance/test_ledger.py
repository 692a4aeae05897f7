"""What every ledger does, in Postgres and in memory; and that any order of operations gives the same in both."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import LeaseLost
from tasks.feed import Feed
from tasks.ledger.batches import Members, Slice
from tasks.ledger.claims import Busy
from tasks.ledger.counts import OUTCOMES
from tasks.ledger.db import connect
from tasks.ledger.memory import MemoryLedger
from tasks.ledger.moves import Move
from tasks.ledger.port import Ledger
from tasks.ledger.postgres import PostgresLedger
from tasks.model import BEGIN, Offer, Position, record_id

TABLES = (
    "ledger.delivery, ledger.batch, ledger.record, ledger.record_key, ledger.batch_slice, ledger.finding, "
    "ledger.quarantine, ledger.sighting, ledger.cursor, ledger.claim"
)


@pytest.fixture
def feed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Feed:
    from tasks.feed import load

    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "north.adt.yaml").write_text(
        "source: {kind: memory}\nformat: hl7v2\ntimezone: America/New_York\n"
    )
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    return load("north.adt")


@pytest.fixture
def postgres(warehouse_url: str) -> Iterator[PostgresLedger]:
    with connect(warehouse_url) as connection:
        yield PostgresLedger(connection, warehouse_url)


@pytest.fixture(params=["memory", "postgres"])
def ledger(request: pytest.FixtureRequest) -> Any:
    return MemoryLedger() if request.param == "memory" else request.getfixturevalue("postgres")


@pytest.fixture
def token(ledger: Ledger) -> Iterator[int]:
    number = ledger.claim("feed:north.adt", "run", 60)
    yield number
    ledger.let_go("feed:north.adt", number)


def land(ledger: Ledger, feed: Feed, name: str, data: str, version: str = "1") -> tuple[int, str]:
    number = ledger.open_delivery(feed, Offer(name, version), "run")
    return number, ledger.landed(number, f"{number}.1", len(data), hashlib.sha256(data.encode()).digest())


def members(delivery: int, *ended: str | None, first: int = 1, read: bool = True, keys: str = "") -> Members:
    """Records of one delivery from an ordinal on, each with how it ended before the store."""
    last = first + len(ended) - 1
    counts = Counter(["received"] * len(ended) + [one for one in ended if one])
    stop = None if read else Position(last * 100, last + 1, {})
    made = Members(slices=[Slice(delivery, first, last, BEGIN, stop, None, counts)])
    for ordinal, one in enumerate(ended, first):
        key = hashlib.sha256(f"{keys}{ordinal}".encode()).digest()[:16] if keys else None
        row: Any = (record_id(delivery, ordinal), datetime.now(UTC).date(), f"message {ordinal}", key, one)
        made.records.append(row)
    return made


def totals(ledger: Ledger) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in OUTCOMES) for row in ledger.counts("north.adt")]


def test_a_claim_is_held_until_it_is_let_go_and_tokens_only_grow(ledger: Ledger) -> None:
    first = ledger.claim("feed:x", "one", 60)
    with pytest.raises(Busy):
        ledger.claim("feed:x", "two", 60)
    other = ledger.claim("feed:y", "two", 60)
    ledger.check("feed:x", first)
    ledger.let_go("feed:x", first)
    second = ledger.claim("feed:x", "two", 60)
    assert first < other < second
    with pytest.raises(LeaseLost):
        ledger.check("feed:x", first)
    ledger.let_go("feed:x", first)
    ledger.check("feed:x", second)
    for name, number in (("feed:x", second), ("feed:y", other)):
        ledger.let_go(name, number)


def test_an_offer_is_one_delivery_however_often_it_is_opened(ledger: Ledger, feed: Feed) -> None:
    number = ledger.open_delivery(feed, Offer("a", "1"), "run")
    assert ledger.open_delivery(feed, Offer("a", "1"), "another run") == number
    assert ledger.open_delivery(feed, Offer("a", "2"), "run") != number
    assert ledger.unfinished("north.adt") == []


def test_bytes_that_came_before_are_a_duplicate_and_a_name_with_other_bytes_a_correction(
    ledger: Ledger, feed: Feed
) -> None:
    first, verdict = land(ledger, feed, "a", "one")
    assert verdict == "landed"
    assert land(ledger, feed, "b", "one")[1] == "duplicate"
    assert land(ledger, feed, "a", "two", "2")[1] == "correction"
    assert land(ledger, feed, "c", "one")[1] == "duplicate"
    rows = ledger.counts("north.adt")
    assert [row["duplicate_of"] for row in rows] == [None, first, None, first]
    assert [row["corrects"] for row in rows] == [None, None, first, None]


def test_a_delivery_is_landed_once(ledger: Ledger, feed: Feed) -> None:
    number, _ = land(ledger, feed, "a", "one")
    with pytest.raises(LeaseLost):
        ledger.landed(number, "other", 3, b"x" * 32)


def test_a_source_is_told_of_what_a_crash_kept_from_it(ledger: Ledger, feed: Feed) -> None:
    number, _ = land(ledger, feed, "a", "one")
    assert ledger.unfinished("north.adt") == [(number, Offer("a", "1"))]
    ledger.finished(number)
    assert ledger.unfinished("north.adt") == []


def test_looks_in_a_row_are_counted_and_a_cursor_is_kept(ledger: Ledger) -> None:
    assert [ledger.sighted("f", "a", version) for version in ("1", "1", "2", "2")] == [1, 2, 1, 2]
    assert ledger.cursor("f") == {}
    ledger.save("f", {"since": 1})
    ledger.save("f", {"since": 2})
    assert ledger.cursor("f") == {"since": 2}


def test_reading_goes_on_where_it_was_left_and_ends_with_the_last_record(
    ledger: Ledger, feed: Feed, token: int
) -> None:
    number, _ = land(ledger, feed, "a", "one")
    ledger.stage(feed, token, members(number, None, None, read=False))
    [delivery] = ledger.unread("north.adt")
    assert (delivery.id, delivery.position) == (number, Position(200, 3, {}))
    ledger.stage(feed, token, members(number, None, first=3))
    assert ledger.unread("north.adt") == []


def test_received_is_what_ended_and_what_is_in_flight_at_every_moment(ledger: Ledger, feed: Feed, token: int) -> None:
    number, _ = land(ledger, feed, "a", "one")
    batch = ledger.stage(feed, token, members(number, None, None, "quarantined", "duplicate", "filtered"))
    assert totals(ledger) == [(5, 0, 1, 1, 1, 0, 2)]
    ledger.set_state(batch, "stored")
    assert totals(ledger) == [(5, 0, 1, 1, 1, 0, 2)]
    ledger.set_state(batch, "published")
    assert totals(ledger) == [(5, 2, 1, 1, 1, 0, 0)]
    land(ledger, feed, "b", "one")
    assert totals(ledger)[1] == (5, 0, 0, 5, 0, 0, 0)


def test_a_batch_without_anything_to_publish_has_ended(ledger: Ledger, feed: Feed, token: int) -> None:
    number, _ = land(ledger, feed, "a", "one")
    ledger.stage(feed, token, members(number, "quarantined"))
    assert ledger.open_batches("north.adt", "staged") == []
    assert totals(ledger) == [(1, 0, 1, 0, 0, 0, 0)]


def test_a_worker_that_was_replaced_fixes_nothing(ledger: Ledger, feed: Feed) -> None:
    number, _ = land(ledger, feed, "a", "one")
    old = ledger.claim("feed:north.adt", "old", 60)
    ledger.let_go("feed:north.adt", old)
    new = ledger.claim("feed:north.adt", "new", 60)
    with pytest.raises(LeaseLost):
        ledger.stage(feed, old, members(number, None))
    assert ledger.open_batches("north.adt", "staged") == []
    assert totals(ledger) == [(0, 0, 0, 0, 0, 0, 0)]
    ledger.let_go("feed:north.adt", new)


def test_records_move_with_their_counts(ledger: Ledger, feed: Feed, token: int) -> None:
    number, _ = land(ledger, feed, "a", "one")
    first = ledger.stage(feed, token, members(number, None, "quarantined", "quarantined", keys="k"))
    ledger.set_state(first, "published")
    other, _ = land(ledger, feed, "b", "two")
    second = ledger.stage(feed, token, members(other, None))
    ledger.move([Move(record_id(number, 2), None, second), Move(record_id(number, 3), "discarded")])
    assert totals(ledger) == [(3, 1, 0, 0, 0, 1, 1), (1, 0, 0, 0, 0, 0, 1)]
    key = hashlib.sha256(b"k2").digest()[:16]
    assert ledger.known("north.adt", [key]) == {key: record_id(number, 2)}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["land", "finish", "read", "read on", "store", "publish", "hold", "discard", "claim", "steal"]),
        st.integers(0, 5),
        st.lists(st.sampled_from([None, None, "quarantined", "duplicate", "filtered"]), min_size=1, max_size=4),
    ),
    max_size=25,
)


class Steps:
    """Takes the same steps in a ledger and notes what it says."""

    def __init__(self, ledger: Ledger, feed: Feed) -> None:
        self.ledger, self.feed = ledger, feed
        self.said: list[Any] = []
        self.stopped: list[int] = []
        self.token = ledger.claim("feed:north.adt", "run", 600)

    def take(self, word: str, number: int, ended: list[str | None]) -> None:
        handler: Callable[[int, list[str | None]], Any] = getattr(self, "_" + word.replace(" ", "_"))
        try:
            self.said.append(handler(number, ended))
        except (LeaseLost, Busy) as error:
            self.said.append(type(error).__name__)
        self.said.append(totals(self.ledger))

    def _land(self, number: int, ended: list[str | None]) -> Any:
        return land(self.ledger, self.feed, f"file {number % 3}", f"bytes {number}", str(len(ended)))

    def _finish(self, number: int, _: list[str | None]) -> Any:
        todo = self.ledger.unfinished("north.adt")
        if todo:
            self.ledger.finished(todo[number % len(todo)][0])
        return [one for one, _ in todo]

    def _read(self, number: int, ended: list[str | None], *, on: bool = False) -> Any:
        todo = self.ledger.unread("north.adt")
        if not todo:
            return None
        one = todo[number % len(todo)]
        part = members(one.id, *ended, first=one.position.ordinal, read=not on, keys=f"{one.id}:")
        batch = self.ledger.stage(self.feed, self.token, part)
        self.stopped += [record for record, *_, how in part.records if how == "quarantined"]
        return one.id, one.position, batch

    def _read_on(self, number: int, ended: list[str | None]) -> Any:
        return self._read(number, ended, on=True)

    def _state(self, number: int, old: str, new: str) -> Any:
        todo = self.ledger.open_batches("north.adt", old)
        if todo:
            self.ledger.set_state(todo[number % len(todo)], new)
        return todo

    def _store(self, number: int, _: list[str | None]) -> Any:
        return self._state(number, "staged", "stored")

    def _publish(self, number: int, _: list[str | None]) -> Any:
        return self._state(number, "stored", "published")

    def _hold(self, number: int, _: list[str | None]) -> Any:
        return self._state(number, "staged", "held")

    def _discard(self, number: int, _: list[str | None]) -> Any:
        """An operator ends a quarantined record."""
        if not self.stopped:
            return None
        record = self.stopped.pop(number % len(self.stopped))
        self.ledger.move([Move(record, "discarded")])
        return record

    def _claim(self, number: int, _: list[str | None]) -> Any:
        other = self.ledger.claim(f"feed:{number}", "run", 600)
        self.ledger.let_go(f"feed:{number}", other)
        return "claimed"

    def _steal(self, number: int, _: list[str | None]) -> Any:
        self.ledger.let_go("feed:north.adt", self.token)
        newer = self.ledger.claim("feed:north.adt", "other", 600)
        if number % 2:
            self.token = newer
        else:
            self.ledger.let_go("feed:north.adt", newer)
        return "stolen"

    def end(self) -> list[Any]:
        self.ledger.let_go("feed:north.adt", self.token)
        return self.said


@pytest.mark.slow
def test_any_steps_give_the_same_in_postgres_and_in_memory(postgres: PostgresLedger, feed: Feed) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def same(steps: list[Any]) -> None:
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute(f"truncate {TABLES} restart identity cascade")
        with ExitStack() as stack:
            both = [Steps(MemoryLedger(), feed), Steps(postgres, feed)]
            for one in both:
                stack.callback(one.end)
            for step in steps:
                for one in both:
                    one.take(*step)
            assert both[1].said == both[0].said
        assert postgres.connection.execute("select * from ops.invariant").fetchall() == []

    same()
