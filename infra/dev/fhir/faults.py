"""Faults that a test can ask of the server: what real servers do on a bad day, on purpose and in a known order."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.dev.fhir.outcome import Issue, outcome
from infra.dev.fhir.protocol import FHIR_JSON
from mappings.engine.json import dumps

Kind = Literal["answer", "drop", "truncate", "trickle", "delay", "commit-then-drop", "commit-then-delay"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong, for requests whose `METHOD /path` the regular expression `where` is found in.

    - `answer`: `status` with an OperationOutcome and `headers` instead of the work (500 once, 429 with Retry-After,
      410 for a file, 200 with an error inside).
    - `drop`: the connection ends before an answer and nothing has been done; `commit-then-drop`: all has been done.
    - `delay`, `commit-then-delay`: `seconds` pass before the work, or between the work and its answer.
    - `truncate`: the body ends after `size` bytes and the connection with it, without the end that was announced.
    - `trickle`: the body comes `size` bytes at a time with `seconds` between.

    It happens `times` times (None: always) after `skip` requests have gone well.
    """

    kind: Kind
    where: str = ""
    times: int | None = 1
    skip: int = 0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int = 1
    seconds: float = 0.0


class Faults:
    """The faults that a server is to have; tests add to it while the server runs. `seen` counts what happened."""

    def __init__(self, *faults: Fault) -> None:
        self._lock = threading.Lock()
        self._left: list[list[Any]] = []
        self.seen = 0
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Let `fault` happen to the requests that come from now on."""
        with self._lock:
            self._left.append([fault, fault.skip, fault.times])

    def clear(self) -> None:
        """Take every fault away."""
        with self._lock:
            self._left.clear()

    def next(self, request: str) -> Fault | None:
        """Return the fault that `request` (`METHOD /path`) is to meet, the one that was added first."""
        with self._lock:
            for item in self._left:
                fault, skip, times = item
                if times == 0 or not re.search(fault.where, request):
                    continue
                if skip:
                    item[1] -= 1
                    continue
                item[2] = None if times is None else times - 1
                self.seen += 1
                return fault  # type: ignore[no-any-return]
        return None


class Dropped(Exception):
    """The connection is to end here."""


class FaultyServer:
    """An ASGI application with the faults of `faults`."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.next(f"{scope['method']} {scope['path']}") if scope["type"] == "http" else None
        if fault is None:
            await self.app(scope, receive, send)
            return
        try:
            await self._fail(fault, scope, receive, send)
        except Dropped:
            await _cut(receive, send)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "answer":
            await _answer(fault, send)
        elif fault.kind == "drop":
            raise Dropped
        else:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            await self.app(scope, receive, _Sending(fault, send))


class _Sending:
    """What stands between the application and the wire once the work is done."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self.fault, self.send, self.sent = fault, send, 0

    async def __call__(self, message: Message) -> None:
        starts = message["type"] == "http.response.start"
        if starts and self.fault.kind == "commit-then-drop":
            raise Dropped
        if starts and self.fault.kind == "commit-then-delay":
            await asyncio.sleep(self.fault.seconds)
        body = message.get("body", b"")
        if self.fault.kind == "truncate" and self.sent + len(body) >= self.fault.size and not starts:
            await self.send({**message, "body": body[: self.fault.size - self.sent], "more_body": True})
            raise Dropped
        self.sent += len(body)
        if self.fault.kind == "trickle" and body:
            await self._trickle(message, body)
        else:
            await self.send(message)

    async def _trickle(self, message: Message, body: bytes) -> None:
        for start in range(0, len(body), self.fault.size):
            await self.send({**message, "body": body[start : start + self.fault.size], "more_body": True})
            await asyncio.sleep(self.fault.seconds)
        await self.send({**message, "body": b""})


async def _answer(fault: Fault, send: Send) -> None:
    issue = Issue("a fault that was asked for", "throttled" if fault.status == 429 else "exception")
    headers = {"content-type": FHIR_JSON, **fault.headers}
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": fault.status, "headers": raw})
    await send({"type": "http.response.body", "body": dumps(outcome(issue))})


async def _cut(receive: Receive, send: Send) -> None:
    """End the connection without a word more; ASGI has no event for that, so uvicorn's transport is taken."""
    send.__self__.transport.close()  # type: ignore[attr-defined]
    while (await receive())["type"] != "http.disconnect":
        pass
