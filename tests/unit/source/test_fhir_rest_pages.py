"""Servers that page, sort and link in their own ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tasks.errors import Permanent
from tasks.http import Retry
from tasks.source import fhir_rest
from tasks.source.fhir_rest import FhirRestOptions, FhirRestSource
from tasks.source.fhir_rest_pages import Asker, instant, read_item, walk
from tasks.source.memory import MemoryState

BASE = "http://fhir.example.org/r4"
START = datetime(2026, 3, 9, 10, tzinfo=UTC)
DATE = {"Date": "Mon, 09 Mar 2026 10:00:00 GMT"}
HISTORY = {"rest": [{"mode": "server", "resource": [{"type": "Patient", "interaction": [{"code": "history-type"}]}]}]}


class Shelf:
    """A server of patients by id → (version, time), paging by offset: what changes moves to the end."""

    def __init__(self, sorts: bool = True, count: int = 3) -> None:
        self.held: dict[str, tuple[int, datetime]] = {}
        self.gone: list[str] = []
        self.sorts, self.count = sorts, count
        self.asked: list[str] = []
        self.between: Callable[[], None] = lambda: None

    def put(self, ident: str, minutes: float) -> None:
        version = self.held.get(ident, (0, START))[0]
        self.held[ident] = (version + 1, START + timedelta(minutes=minutes))

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if request.url.path.endswith("/metadata"):
            return httpx.Response(200, json=HISTORY)
        if request.url.path.endswith("/_history"):
            return httpx.Response(200, json=_bundle([_gone(ident) for ident in reversed(self.gone)], []), headers=DATE)
        query = request.url.params
        since = datetime.fromisoformat(query["_lastUpdated"].removeprefix("ge")) if "_lastUpdated" in query else START
        since = since if "_lastUpdated" in query else datetime.min.replace(tzinfo=UTC)
        rows = [(at, ident, version) for ident, (version, at) in self.held.items() if at >= since]
        if self.sorts:
            rows.sort()
        offset = int(query.get("_offset", "0"))
        page = rows[offset : offset + self.count]
        own = str(request.url) if self.sorts else str(request.url.copy_remove_param("_sort"))
        links = [{"relation": "self", "url": own}]
        if len(rows) > offset + self.count:
            following = request.url.copy_set_param("_offset", offset + self.count)
            links.append({"relation": "next", "url": str(following)})
        body = _bundle([_entry(*row) for row in page], links)
        self.between()
        return httpx.Response(200, json=body, headers=DATE)


def _entry(at: datetime, ident: str, version: int) -> dict[str, Any]:
    meta = {"versionId": str(version), "lastUpdated": instant(at)}
    return {"resource": {"resourceType": "Patient", "id": ident, "meta": meta}, "search": {"mode": "match"}}


def _gone(ident: str) -> dict[str, Any]:
    """As HAPI FHIR tells of it: the URL is the version's, and there is no time."""
    request = {"method": "DELETE", "url": f"Patient/{ident}/_history/2"}
    return {"fullUrl": f"{BASE}/Patient/{ident}", "request": request, "response": {"status": "200", "etag": 'W/"2"'}}


def _bundle(entries: list[dict[str, Any]], links: list[dict[str, str]]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


def _told(entry: dict[str, Any]) -> str:
    kept = entry.get("resource")
    return f"{kept['id']}/{kept['meta']['versionId']}" if kept else f"-{entry['request']['url']}"


def asker(answer: Callable[[httpx.Request], httpx.Response]) -> Asker:
    return Asker(httpx.Client(transport=httpx.MockTransport(answer)), BASE, Retry(2, 0.001))


def polled(shelf: Shelf, state: MemoryState, **options: Any) -> list[str]:
    source = FhirRestSource(FhirRestOptions(kind="fhir-rest", base_url=BASE, types=("Patient",), **options), {})
    source._asker.http.close()
    source._asker.http = httpx.Client(transport=httpx.MockTransport(shelf.answer))
    out = []
    for offer in source.poll(state):
        bundle = json.loads(b"".join(source.read(offer)))
        out += [_told(entry) for entry in bundle["entry"]]
        assert not state.landed(offer.name, offer.version)
        state.land(offer)
        source.finish(offer, state)
    source.done(state)
    source._asker.http.close()
    return out


def test_offset_pages_that_shift_while_they_are_walked_lose_nothing() -> None:
    shelf = Shelf()
    for n in range(12):
        shelf.put(f"p{n:02}", n)

    def change() -> None:
        # the first one moves behind the last: every page behind it shifts by one
        shelf.between = lambda: None
        shelf.put("p00", 60)

    shelf.between = change
    assert set(polled(shelf, MemoryState())) == {f"p{n:02}/1" for n in range(12)} | {"p00/2"}


def test_a_server_that_does_not_sort_is_walked_by_its_links_to_the_end() -> None:
    shelf, state = Shelf(sorts=False), MemoryState()
    for n in (5, 9, 1, 7, 3, 8, 2):
        shelf.put(f"p{n}", n)
    assert sorted(polled(shelf, state)) == [f"p{n}/1" for n in (1, 2, 3, 5, 7, 8, 9)]
    assert polled(shelf, state) == []
    shelf.put("p1", 20)
    assert polled(shelf, state) == ["p1/2"]


def test_many_changes_of_one_moment_are_walked_by_links() -> None:
    shelf = Shelf()
    for n in range(20):
        shelf.put(f"p{n:02}", 1)
    assert sorted(polled(shelf, MemoryState())) == [f"p{n:02}/1" for n in range(20)]


def test_what_was_committed_late_with_an_earlier_time_is_found_within_the_overlap() -> None:
    shelf, state = Shelf(), MemoryState()
    shelf.put("p1", 60)
    assert polled(shelf, state, overlap="5m") == ["p1/1"]
    shelf.put("late", 56)
    shelf.put("too-late", 54)
    assert polled(shelf, state, overlap="5m") == ["late/1"]
    assert polled(shelf, state, overlap="5m") == []
    assert "_lastUpdated=ge2026-03-09T10%3A55%3A00.000Z" in shelf.asked[-2] + shelf.asked[-1]


def test_the_first_poll_begins_where_the_feed_says() -> None:
    shelf, state = Shelf(), MemoryState()
    shelf.put("old", 0)
    shelf.put("new", 60)
    assert polled(shelf, state, since="2026-03-09T10:30:00Z") == ["new/1"]


def test_a_link_to_another_host_is_not_followed_with_the_authorization() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        link = [{"relation": "next", "url": "http://internal:8080/r4/Patient?page=2"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "link": link, "entry": []})

    with pytest.raises(Permanent, match=r"leads to http://internal:8080.*base_url"):
        list(walk(asker(answer), "Patient", [], None))


def test_pages_that_lead_back_to_each_other_end() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        link = [{"relation": "next", "url": f"{BASE}/Patient?page=1"}]
        return httpx.Response(200, json={"resourceType": "Bundle", "link": link})

    with pytest.raises(Permanent, match="lead back"):
        list(walk(asker(answer), "Patient", [], None))


@pytest.mark.parametrize("body", [b"<html>", b'{"resourceType":"OperationOutcome"}', b"[]", b""])
def test_an_answer_that_is_no_bundle_is_told_without_its_words(body: bytes) -> None:
    with pytest.raises(Permanent, match="not a Bundle"):
        list(walk(asker(lambda _: httpx.Response(200, content=body)), "Patient", [], None))


def test_an_entry_is_known_again_by_type_id_and_version() -> None:
    one = read_item(json.dumps(_entry(START, "p1", 1)).encode())
    assert one.mark == read_item(json.dumps(_entry(START, "p1", 1), indent=2).encode()).mark
    assert one.mark != read_item(json.dumps(_entry(START, "p1", 2)).encode()).mark
    assert one.updated == START


@pytest.mark.parametrize("raw", [b"{}", b"[]", b"1", b'{"resource":5}', b'{"resource":{"meta":7}}'])
def test_an_entry_that_cannot_be_read_is_an_item_all_the_same(raw: bytes) -> None:
    assert read_item(raw).raw == raw


def test_a_deletion_without_a_time_is_handed_over_once() -> None:
    shelf, state = Shelf(), MemoryState()
    shelf.put("p1", 1)
    assert polled(shelf, state) == ["p1/1"]
    shelf.gone.append("p1")
    assert polled(shelf, state) == ["-Patient/p1/_history/2"]
    assert polled(shelf, state) == []
    shelf.gone.append("p2")
    assert polled(shelf, state) == ["-Patient/p2/_history/2"]


def test_more_changes_within_the_overlap_than_the_cursor_remembers_are_not_landed_again(monkeypatch) -> None:
    monkeypatch.setattr(fhir_rest, "SEEN", 4)
    shelf, state = Shelf(), MemoryState()
    for n in range(12):
        shelf.put(f"p{n:02}", n / 60)
    assert sorted(polled(shelf, state)) == [f"p{n:02}/1" for n in range(12)]
    assert polled(shelf, state) == []
    shelf.put("p00", 1)
    assert "p00/2" in polled(shelf, state)
