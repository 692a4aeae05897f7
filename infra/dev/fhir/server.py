"""What the server's routes share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from psycopg_pool import ConnectionPool

from infra.dev.fhir.auth import EVERYTHING, Keeper, Rights
from infra.dev.fhir.outcome import Refusal
from infra.dev.fhir.protocol import Answer, Asking, asking
from infra.dev.fhir.store import Db
from infra.dev.fhir.subscriptions import Notifier
from infra.dev.fhir.writing import WRITING, Entry, perform

T = TypeVar("T")


class Server:
    """The pool, the writers' turn, the limits, and who may come in: everybody where `keeper` is None."""

    def __init__(self, pool: ConnectionPool, base_url: str | None, largest: int, keeper: Keeper | None) -> None:
        self.pool, self.base_url, self.largest, self.keeper = pool, base_url, largest, keeper
        # Writers come one after another in Postgres; waiting here does not hold a connection that a reader could use.
        self._turn = threading.Lock()
        self.notifier = Notifier(self.writing, self.reading)

    def base(self, request: Request) -> str:
        """Return the server's own URL without a last slash."""
        return self.base_url or str(request.base_url).rstrip("/")

    def asking(self, request: Request) -> Asking:
        """Return what `request` prefers and may do.

        Raises `Refusal` 401 where it does not say who it is, and 406 where it accepts no JSON.
        """
        return asking(request, self.base(request), self.require_known(request))

    def require_known(self, request: Request) -> Rights:
        """Return what `request` may do; raise `Refusal` 401 where it does not say who it is."""
        if self.keeper is None or request.url.path == "/metadata":
            return EVERYTHING
        return self.keeper.rights(request)

    def reading(self, work: Callable[[Db], T]) -> T:
        """Return what `work` reads in a transaction of its own."""
        with self.pool.connection() as db, db.transaction():
            return work(db)

    def writing(self, entries: list[Entry], ask: Asking) -> list[Answer]:
        """Carry out `entries` in one transaction, committed before this returns."""
        if not any(entry.method in WRITING for entry in entries):
            return self.reading(lambda db: perform(db, entries, ask))
        with self._turn, self.pool.connection() as db, db.transaction():
            answers = perform(db, entries, ask)
        self.notifier.wrote(answers, ask)
        return answers

    async def body(self, request: Request) -> bytes:
        """Return the request's body; raise `Refusal` 413 where it is larger than the limit."""
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > self.largest:
                raise Refusal(413, f"the body is larger than {self.largest} bytes: send less at once")
        return bytes(data)
