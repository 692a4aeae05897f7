"""Servers that tell of changes: the subscription is made and renewed there, and what it tells of is read again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tasks.feed import load
from tasks.listen.run import http

TOKEN = "a-secret-of-some-length"


class Listener:
    """`sluice listen http` for one feed, on a thread; its port is free before it serves."""

    def __init__(self, feed: str, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        ready = threading.Event()
        told = self._stop.wait

        def run() -> None:
            asyncio.set_event_loop(self._loop)
            self._loop.run_until_complete(
                http([load(feed)], "127.0.0.1", port, lambda _: ready.set(), told)  # type: ignore[arg-type,return-value]
            )

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        while not ready.wait(0.05):
            assert self._thread.is_alive()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        assert not self._thread.is_alive()
        self._loop.close()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
    return found


@pytest.fixture
def listen() -> Iterator[Callable[[str, int], Listener]]:
    running: list[Listener] = []

    def start(feed: str, port: int) -> Listener:
        running.append(Listener(feed, port))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def subscribing(exchange, system, more: str = "", types: str = "[Patient]"):
    ward = exchange.add("ward", system(), notify_token=TOKEN)
    port = free_port()
    place = f"http://127.0.0.1:{port}/ward.fhir/notify"
    exchange.feed("ward.fhir", f"types: {types}, subscribe: {{endpoint: '{place}'{more}}}", "schedule: {every: 1h}\n")
    return ward, port, place


def notices(exchange) -> list[tuple[str, str]]:
    return exchange.rows("select resource_type, resource_id from ledger.notice order by number")


def status(ward) -> list[str]:
    return [one["status"] for one in ward.all("Subscription")]


TOPIC = ", form: topic, topic: 'http://example.org/topics/Patient'"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("", False),
        (TOPIC, True),
        pytest.param(", content: full-resource", True, marks=pytest.mark.slow),
        pytest.param(f"{TOPIC}, content: empty", False, marks=pytest.mark.slow),
        pytest.param(
            f"{TOPIC}, content: full-resource, filters: ['Patient?identifier=x|1']", True, marks=pytest.mark.slow
        ),
    ],
)
def test_what_a_server_tells_of_is_read_again_by_the_next_poll(
    exchange, system, listen, more: str, named: bool
) -> None:
    ward, port, _ = subscribing(exchange, system, more)
    listen("ward.fhir", port)
    assert exchange.poll("ward.fhir") == {}
    until(lambda: status(ward) == ["active"])
    ward.put(
        {
            "resourceType": "Patient",
            "id": "p1",
            "birthDate": "1972-08-31",
            "identifier": [{"system": "x", "value": "1"}],
        }
    )
    until(lambda: notices(exchange) == [("Patient", "p1") if named else ("", "")])
    assert exchange.poll("ward.fhir") == {"landed": 1}
    assert notices(exchange) == []
    (stored,) = exchange.rows("select resource->>'birthDate' from fhir.resource where resource_type = 'Patient'")
    assert stored == ("1972-08-31",)
    assert exchange.poll("ward.fhir") == {}
    assert status(ward) == ["active"]


@pytest.mark.slow
def test_a_deletion_that_a_server_tells_of_is_read_as_gone(exchange, system, listen) -> None:
    ward, port, _ = subscribing(exchange, system, ", content: full-resource")
    listen("ward.fhir", port)
    ward.put({"resourceType": "Patient", "id": "p1"})
    exchange.poll("ward.fhir")
    until(lambda: status(ward) == ["active"])
    ward.delete("Patient/p1")
    until(lambda: notices(exchange) == [("Patient", "p1")])
    exchange.poll("ward.fhir")
    assert exchange.rows("select deleted from fhir.resource where resource_type = 'Patient'") == [(True,)]


@pytest.mark.slow
def test_a_subscription_is_made_once_renewed_in_time_and_mended(exchange, system, listen) -> None:
    ward, port, place = subscribing(exchange, system, ", lifetime: 1d")
    listen("ward.fhir", port)
    for _ in range(3):
        exchange.poll("ward.fhir")
    (made,) = ward.all("Subscription")
    assert made["channel"]["endpoint"] == place
    until(lambda: status(ward) == ["active"])
    (active,) = ward.all("Subscription")
    # most of its life is over, then the server gives it up, then somebody takes it away
    ward.put({**active, "end": "2020-01-01T00:00:00Z"})
    exchange.poll("ward.fhir")
    (renewed,) = ward.all("Subscription")
    assert renewed["id"] == made["id"]
    assert renewed["end"] > "2021"
    until(lambda: status(ward) == ["active"])
    ward.put({**renewed, "status": "error"})
    exchange.poll("ward.fhir")
    until(lambda: status(ward) == ["active"])
    ward.delete(f"Subscription/{made['id']}")
    exchange.poll("ward.fhir")
    assert len(ward.all("Subscription")) == 1


@pytest.mark.slow
def test_a_server_that_refuses_a_subscription_is_polled_all_the_same(exchange, system) -> None:
    from infra.dev.fhir.faults import Fault

    ward, _, _ = subscribing(exchange, system)
    ward.faults.add(Fault("answer", "POST /Subscription", times=None, status=422))
    ward.put({"resourceType": "Patient", "id": "p1"})
    assert exchange.poll("ward.fhir") == {"landed": 1}
    (problem,) = exchange.rows("select value->'subscriptions'->'Patient?'->>'problem' from ledger.cursor")
    assert "422" in problem[0]
    ward.faults.clear()
    exchange.poll("ward.fhir")
    assert exchange.rows("select value->'subscriptions'->'Patient?' ? 'problem' from ledger.cursor") == [(False,)]


def test_who_does_not_show_the_secret_tells_nothing(exchange, system, listen) -> None:
    _, port, place = subscribing(exchange, system)
    listen("ward.fhir", port)
    with httpx.Client(trust_env=False, timeout=30) as stranger:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = stranger.post(place, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["resourceType"] == "OperationOutcome"
        assert notices(exchange) == []
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert stranger.post(place.replace("ward.fhir", "other.feed"), headers=known).status_code == 404
        assert stranger.post(place, headers=known, content=b"{nonsense").status_code == 400
        assert stranger.post(place, headers=known).status_code == 200
    assert notices(exchange) == [("", "")]
