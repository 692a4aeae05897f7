"""Claims: who may work on a feed or a destination, told by a lease and fenced by a token.

A claim is taken over when its lease has run out, or at once when its holder is dead: the holder's session keeps an
advisory lock that Postgres gives up with the session. A holder that was only asleep finds a higher token when it
wakes up, and every transaction that changes something checks the token; one in which it fell asleep is ended.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg

from tasks.errors import LeaseLost, SluiceError
from tasks.ledger.db import Connection, connect


class Busy(SluiceError):
    """Somebody else works on this now; there is nothing to do but come again."""


@contextmanager
def claim(url: str, name: str, run_id: str | None, lease: float) -> Iterator[int]:
    """Yield the fencing token of a claim on `name` and keep its lease alive; raises `Busy`.

    `lease` is in seconds; it is renewed every third of it by a thread of its own.
    """
    with connect(url, f"sluice claim {name}") as connection:
        token = _take(connection, name, run_id, lease)
        stop = threading.Event()
        keeper = threading.Thread(target=_renew, args=(url, name, token, lease, stop), daemon=True)
        keeper.start()
        try:
            yield token
        finally:
            stop.set()
            keeper.join()
            connection.execute(
                "update ledger.claim set lease_until = now() where name = %s and token = %s", (name, token)
            )


@contextmanager
def claim_within(url: str, name: str, run_id: str | None, lease: float, patience: float) -> Iterator[int]:
    """Yield a claim's token as `claim` does, waiting up to `patience` seconds for it; raises `Busy` after that."""
    deadline = time.monotonic() + patience
    with ExitStack() as stack:
        while True:
            try:
                token = stack.enter_context(claim(url, name, run_id, lease))
                break
            except Busy:
                if time.monotonic() >= deadline:
                    raise
            time.sleep(0.2)
        yield token


def check(connection: Connection, name: str, token: int) -> None:
    """Raise `LeaseLost` where `token` is no longer the newest of `name`; holds it still until the transaction ends.

    The session bears the token meanwhile, by which a successor finds it. A key share lock lets the lease be renewed
    beside it, however long the transaction takes, and keeps a successor out, who asks for the whole row.
    """
    row = connection.execute(
        "select token, set_config('application_name', %s, true) from ledger.claim where name = %s for key share",
        (_bearer(token), name),
    ).fetchone()
    if row is None or row[0] != token:
        raise LeaseLost(f"{name}: another worker has taken over; this one stops and has changed nothing")


def held_by(connection: Connection, run_id: str) -> list[str]:
    """Return the names of what a run holds a living lease of."""
    rows = connection.execute(
        "select name from ledger.claim where run_id = %s and lease_until > now() order by 1", (run_id,)
    ).fetchall()
    return [str(row[0]) for row in rows]


def _take(connection: Connection, name: str, run_id: str | None, lease: float) -> int:
    got = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (name,)).fetchone()
    holder_is_gone = bool(got and got[0])
    # whoever holds the row is in the middle of a transaction under the old token
    connection.execute("set lock_timeout = '3s'")
    try:
        row = _bump(connection, name, run_id, lease, holder_is_gone)
    except psycopg.errors.LockNotAvailable:
        row = _bump(connection, name, run_id, lease, holder_is_gone) if _end_frozen(connection, name) else None
    if row is None:
        raise Busy(f"{name}: another run is working on it; it goes on from the ledger by itself")
    return int(row[0])


def _end_frozen(connection: Connection, name: str) -> bool:
    """End the transactions of a holder whose lease has run out; say whether there were any.

    A process that is frozen in the middle of one would keep its locks for as long as it sleeps, in a COPY without any
    limit of time; one that is alive renews its lease from a session of its own.
    """
    held = connection.execute(
        "select token from ledger.claim where name = %s and lease_until < now()", (name,)
    ).fetchone()
    if held is None:
        return False
    ended = connection.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
        "where application_name = %s and datname = current_database()",
        (_bearer(held[0]),),
    ).fetchall()
    return bool(ended)


def _bearer(token: int) -> str:
    return f"sluice token {token}"


def _bump(connection: Connection, name: str, run_id: str | None, lease: float, gone: bool) -> Any:
    with connection.transaction():
        connection.execute("select from ledger.claim where name = %s for update", (name,))
        return connection.execute(
            """
            insert into ledger.claim as c (name, token, run_id, lease_until)
            values (%(name)s, nextval('ledger.token'), %(run)s, now() + make_interval(secs => %(lease)s))
            on conflict (name) do update
                set token = excluded.token, run_id = excluded.run_id, lease_until = excluded.lease_until
                where %(gone)s or c.lease_until < now()
            returning token
            """,
            {"name": name, "run": run_id, "lease": lease, "gone": gone},
        ).fetchone()


def _renew(url: str, name: str, token: int, lease: float, stop: threading.Event) -> None:
    while not stop.wait(lease / 3):
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                connection.execute(
                    "update ledger.claim set lease_until = now() + make_interval(secs => %s) "
                    "where name = %s and token = %s",
                    (lease, name, token),
                )
        except psycopg.Error:
            # Postgres may be restarting; when the lease runs out meanwhile, the token decides
            continue
