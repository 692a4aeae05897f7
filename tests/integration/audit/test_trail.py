"""The audit trail: what is appended stays, and whatever is done to it behind Sluice's back is found."""

from __future__ import annotations

import threading
import uuid
from urllib.parse import urlsplit

import psycopg
import pytest

from tasks.errors import ConfigError
from tasks.ledger import audit
from tasks.ledger.audit_event import KINDS, audit_event
from tasks.ledger.db import connect
from tasks.validate import validator


def write(url: str, number: int = 5) -> str:
    """Append some acts and return the head."""
    with connect(url) as connection:
        for n in range(number):
            audit.append(connection, "ada", "gate-release", f"batch:{n}", "looked at it", counts={"released": n})
        return audit.verify(connection).head


def behind_the_back(url: str, *statements: str) -> None:
    """Do what only the owner of the table can: without the trigger."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter table ledger.audit disable trigger user")
        for statement in statements:
            connection.execute(statement.encode())
        connection.execute("alter table ledger.audit enable trigger user")


def problems(url: str, head: str | None = None) -> tuple[str, ...]:
    with connect(url) as connection:
        return audit.verify(connection, head).problems


def test_a_trail_that_nobody_touched_is_whole(warehouse_url):
    assert problems(warehouse_url) == ()
    head = write(warehouse_url)
    assert problems(warehouse_url, head) == ()
    write(warehouse_url, 2)
    assert problems(warehouse_url, head) == (), "an older head is still in the longer trail"


@pytest.mark.parametrize(
    "statement",
    ["update ledger.audit set reason = 'other'", "delete from ledger.audit", "truncate ledger.audit"],
)
def test_what_was_written_is_neither_changed_nor_deleted(warehouse_url, statement):
    write(warehouse_url)
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)
        assert connection.execute("select count(*) from ledger.audit").fetchone() == (5,)


@pytest.mark.parametrize("statement", ["update ledger.audit set reason = 'other'", "delete from ledger.audit"])
def test_a_session_without_triggers_changes_nothing_either(warehouse_url, statement):
    write(warehouse_url)
    with psycopg.connect(warehouse_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize("right", ["update", "delete", "truncate"])
def test_not_even_the_owners_role_has_the_right(postgres_url, right):
    """An owner that is no superuser, as a site's own: the schema is made by it, and it may only add."""
    from infra.migrations import upgrade

    name = f"owner_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(f"create role {name} login password 'x'")
        admin.execute(f"create database {name} owner {name}")
    url = urlsplit(postgres_url)
    own = f"postgresql://{name}:x@{url.hostname}:{url.port}/{name}"
    try:
        upgrade(own)
        with psycopg.connect(own, autocommit=True) as connection:
            asked = "select has_table_privilege('ledger.audit', %s), has_table_privilege('ledger.audit', 'insert')"
            assert connection.execute(asked, (right,)).fetchone() == (False, True)
        with connect(own) as connection:
            audit.append(connection, "ada", "decrypt", "record:1:1", "asked")
            assert audit.verify(connection).problems == ()
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"drop database {name} with (force)")
            admin.execute(f"drop role {name}")


@pytest.mark.parametrize(
    "change",
    [
        "reason = 'other'", "actor = 'eve'", "action = 'decrypt'", "subject = 'batch:9'",
        "at = at + interval '1 microsecond'",
        """counts = '{"released": 9}'""", "hash = sha256('x')",
    ],
)  # fmt: skip
def test_a_changed_row_is_found(warehouse_url, change):
    write(warehouse_url)
    behind_the_back(warehouse_url, "update ledger.audit set " + change + " where number = 3")
    assert any(problem.startswith("row 3: its content") for problem in problems(warehouse_url))


def test_a_row_that_was_taken_out_is_found(warehouse_url):
    write(warehouse_url)
    behind_the_back(warehouse_url, "delete from ledger.audit where number = 3")
    assert problems(warehouse_url)[0].startswith("row 3: missing")


def test_two_rows_that_changed_places_are_found(warehouse_url):
    write(warehouse_url)
    behind_the_back(
        warehouse_url,
        "update ledger.audit set number = 99 where number = 2",
        "update ledger.audit set number = 2 where number = 3",
        "update ledger.audit set number = 3 where number = 99",
    )
    assert any("does not follow on row" in problem for problem in problems(warehouse_url))


def test_a_row_that_was_taken_out_with_all_numbers_closed_up_is_found(warehouse_url):
    write(warehouse_url)
    behind_the_back(
        warehouse_url,
        "delete from ledger.audit where number = 3",
        "update ledger.audit set number = 3 where number = 4",
        "update ledger.audit set number = 4 where number = 5",
    )
    assert any("does not follow on row 2" in problem for problem in problems(warehouse_url))


def test_an_end_that_was_cut_off_is_found_by_the_head(warehouse_url):
    head = write(warehouse_url)
    behind_the_back(warehouse_url, "delete from ledger.audit where number = 5")
    assert problems(warehouse_url) == ()
    assert "cut off" in problems(warehouse_url, head)[0]


def test_many_at_once_make_one_chain(warehouse_url):
    workers = [threading.Thread(target=write, args=(warehouse_url, 10)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with connect(warehouse_url) as connection:
        verified = audit.verify(connection)
    assert (verified.rows, verified.problems) == (40, ())


def test_an_act_without_a_reason_is_refused(warehouse_url):
    with connect(warehouse_url) as connection:
        with pytest.raises(ConfigError, match="--reason"):
            audit.append(connection, "ada", "decrypt", "record:1:1", "  ")
        assert audit.verify(connection).rows == 0


def test_an_act_that_is_rolled_back_leaves_no_row(warehouse_url):
    with connect(warehouse_url) as connection:
        with connection.transaction(force_rollback=True):
            audit.append(connection, "ada", "decrypt", "record:1:1", "asked")
        assert audit.verify(connection).rows == 0


@pytest.mark.parametrize("action", [*KINDS, "something-new"])
def test_an_act_is_a_valid_audit_event(warehouse_url, action):
    with connect(warehouse_url) as connection:
        audit.append(connection, "ada", action, "batch:7", "why not", counts={"released": 3})
        [act] = audit.acts(connection)
    event = audit_event(act)
    assert validator("4.0.1").check(event) == ()
    assert event["purposeOfEvent"] == [{"text": "why not"}]
    assert {"type": "released", "valueString": "3"} in event["entity"][0]["detail"]
