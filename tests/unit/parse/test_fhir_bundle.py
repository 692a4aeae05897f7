"""FHIR as Bundles: entries as records, what they are told of each other, and how reading goes on."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mappings.engine.model import Profile
from tasks.errors import BadRecord
from tasks.model import Frame
from tasks.parse import fhir_bundle
from tasks.parse.fhir import BundleFormat

FORMAT = BundleFormat(Profile("north"))
PATIENT = {"resourceType": "Patient", "id": "p1"}


def bundle(*entries: Any, **more: Any) -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": list(entries), **more}).encode()


def frames(data: bytes, size: int = 1 << 16, limit: int = 10_000) -> list[Frame]:
    pieces = [data[i : i + size] for i in range(0, len(data), size)]
    return list(BundleFormat(Profile("north"), limit).split(pieces))


def refusal(frame: Frame) -> str:
    with pytest.raises(BadRecord) as caught:
        FORMAT.parse(frame)
    return caught.value.findings[0].code


def test_every_entry_is_a_record_with_its_context() -> None:
    data = bundle(
        {"fullUrl": "http://x/fhir/Patient/p1", "resource": PATIENT},
        {"resource": {"resourceType": "Basic"}, "request": {"method": "PUT", "url": "Basic/7"}},
        meta={"entry": [{"entry": ["]"]}]},
    )
    first, second = frames(data)
    assert (first.ordinal, first.location, FORMAT.parse(first).content) == (1, "entry 1", PATIENT)
    assert first.context == {"fullUrl": "http://x/fhir/Patient/p1", "type": "Patient", "identity": "p1"}
    assert second.context == {"method": "PUT", "url": "Basic/7", "type": "Basic", "identity": "7"}


def test_a_deleted_entry_is_its_type_and_id() -> None:
    response = {"lastModified": "2024-01-01T00:00:00Z"}
    (frame,) = frames(bundle({"request": {"method": "DELETE", "url": "Patient/9"}, "response": response}))
    assert FORMAT.parse(frame).content == {"resourceType": "Patient", "id": "9"}
    assert (frame.context["deletes"], frame.context["lastModified"]) == ("Patient/9", "2024-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"request": {"method": "DELETE", "url": "Patient?name=x"}}, "conditional-delete"),
        ({"request": {"method": "GET", "url": "Patient/1"}}, "unsupported-method"),
        (
            {"resource": {"resourceType": "Parameters"}, "request": {"method": "PATCH", "url": "Patient/1"}},
            "unsupported-method",
        ),
        ({"fullUrl": "urn:uuid:1"}, "no-resource"),
        ({"resource": PATIENT, "request": {"method": "PUT", "url": "Patient/other"}}, "entry-url-differs"),
        ({"resource": PATIENT, "request": {"method": "PUT", "url": "http://x/fhir/Group/p1"}}, "entry-url-differs"),
        ({"fullUrl": 5}, "not-an-entry"),
        ({"resource": 5}, "not-an-entry"),
        ({"resource": {"id": "x"}}, "not-a-resource"),
        (None, "not-an-entry"),
        ("x]", "not-an-entry"),
        ([{}], "not-an-entry"),
        (5, "not-an-entry"),
    ],
)
def test_an_entry_that_is_no_record_is_refused_and_its_neighbours_are_not(entry: Any, code: str) -> None:
    before, bad, after = frames(bundle({"resource": PATIENT}, entry, {"resource": PATIENT}))
    assert FORMAT.parse(before).content == FORMAT.parse(after).content == PATIENT
    assert (bad.location, refusal(bad)) == ("entry 2", code)


def test_what_a_search_says_of_itself_is_no_record() -> None:
    outcome = {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}}
    assert [f.location for f in frames(bundle(outcome, {"resource": PATIENT, "search": {"mode": "match"}}))] == [
        "entry 2"
    ]


def refers(*urns: str) -> dict[str, Any]:
    return {"resource": {"resourceType": "List", "entry": [{"item": {"reference": urn}} for urn in urns]}}


def test_urns_are_told_to_those_who_refer_to_them_forwards_and_backwards() -> None:
    data = bundle(
        refers("urn:uuid:b", "urn:uuid:c", "urn:uuid:none"),
        {"fullUrl": "urn:uuid:b", "resource": PATIENT},
        {"fullUrl": "urn:uuid:c", "resource": {"resourceType": "Basic"}},
        refers("urn:uuid:b"),
    )
    found = frames(data)
    assert [f.ordinal for f in found] == [1, 2, 3, 4]
    assert found[0].context["links"] == {"urn:uuid:b": "Patient/p1", "urn:uuid:c": "Basic/c"}
    assert found[3].context["links"] == {"urn:uuid:b": "Patient/p1"}


def test_a_urn_means_nothing_in_the_next_bundle() -> None:
    one = bundle({"fullUrl": "urn:uuid:b", "resource": PATIENT}, refers("urn:uuid:later"))
    two = bundle(refers("urn:uuid:b"), {"fullUrl": "urn:uuid:later", "resource": PATIENT})
    found = frames(one + b"\n" + two)
    assert [f.location for f in found] == ["entry 1", "entry 2", "bundle 2 entry 1", "bundle 2 entry 2"]
    assert found[1].context["links"] == found[2].context["links"] == {}


def test_what_its_own_bundle_does_not_say_is_not_waited_for() -> None:
    taken: list[int] = []

    def file() -> Iterator[bytes]:
        for i, entry in enumerate((refers("urn:uuid:none"), {"resource": PATIENT}, {"resource": PATIENT})):
            taken.append(i)
            yield bundle(entry)

    assert next(FORMAT.split(file())).location == "entry 1"
    assert taken == [0, 1]


def test_waiting_for_a_urn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir_bundle, "LOOK_AHEAD", 1000)
    filler = {"resource": {"resourceType": "Basic", "id": "x" * 600}}
    found = frames(bundle(refers("urn:uuid:b"), filler, filler, {"fullUrl": "urn:uuid:b", "resource": PATIENT}))
    assert found[0].context["links"] == {}
    assert [f.ordinal for f in found] == [1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 13, 1 << 16])
def test_an_entry_beyond_the_limit_is_refused_unread(size: int) -> None:
    big = {"resource": {"resourceType": "Binary", "data": "A" * 20_000}}
    found = frames(bundle({"resource": PATIENT}, big, {"resource": PATIENT}), size)
    assert [f.location for f in found] == ["entry 1", "entry 2", "entry 3"]
    assert (found[1].data, refusal(found[1])) == (b"", "too-large")
    assert FORMAT.parse(found[2]).content == PATIENT


@pytest.mark.parametrize(
    "data", [b"", b" \n", b"[]", b"MSH|^~\\&|", b"{}", b'{"resourceType":"Patient"}', b'{"entry":[]}']
)
def test_what_is_no_bundle_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(BadRecord) as caught:
        frames(data)
    assert caught.value.findings[0].code == "not-a-bundle"


@pytest.mark.parametrize("entry", [b'{"resource": {"resourceType": "Patient"}}', b"null", b'"x"', b"1"])
def test_entries_that_are_no_list_are_not_passed_over(entry: bytes) -> None:
    with pytest.raises(BadRecord) as caught:
        frames(b'{"resourceType": "Bundle", "type": "collection", "entry": ' + entry + b"}")
    assert caught.value.findings[0].code == "not-a-bundle"


def test_an_empty_bundle_has_no_records() -> None:
    assert (
        frames(b'{"resourceType":"Bundle","type":"searchset"}')
        == frames(b'\xef\xbb\xbf{"resourceType":"Bundle"}')
        == []
    )


def test_a_truncated_bundle_yields_what_was_whole_and_says_so() -> None:
    data = bundle({"resource": PATIENT}, refers("urn:uuid:b"), {"fullUrl": "urn:uuid:b", "resource": PATIENT})
    reading = FORMAT.split([data[:-30]])
    assert [next(reading).location, next(reading).location] == ["entry 1", "entry 2"]
    with pytest.raises(BadRecord) as caught:
        next(reading)
    assert (caught.value.findings[0].code, caught.value.findings[0].location) == ("truncated", "entry 2")


texts = st.text(st.sampled_from('a"\\{}[],: \n\u00e9'), max_size=8)
values = st.recursive(
    texts | st.integers() | st.none(), lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3)
)
entries = st.builds(
    lambda body, url, urn: {"fullUrl": url, "resource": {"resourceType": "Basic", "x": body, "y": {"reference": urn}}},
    values,
    st.sampled_from(["urn:uuid:a", "urn:uuid:b", "http://x/Basic/1"]),
    st.sampled_from(["urn:uuid:a", "urn:uuid:b", "Basic/1"]),
)


@given(st.lists(entries | values, max_size=5), st.integers(1, 60), st.booleans())
@settings(deadline=None)
def test_reading_goes_on_from_any_position_whatever_the_chunks(entries: list[Any], size: int, pretty: bool) -> None:
    data = bundle(*entries) + json.dumps(json.loads(bundle(*entries)), indent=2 if pretty else None).encode()
    whole = frames(data)
    assert len(whole) == 2 * len(entries)
    assert frames(data, size) == whole
    for done, frame in enumerate(whole, 1):
        position = frame.next
        assert list(FORMAT.split([data[position.offset :]], position)) == whole[done:]
        assert json.loads(json.dumps(dict(position.context))) == dict(position.context)


def what_became_of(frame: Frame) -> str:
    try:
        FORMAT.parse(frame)
    except BadRecord as bad:
        return bad.findings[0].code
    return "read"


def all_that_became_of(data: bytes) -> list[str]:
    try:
        return [what_became_of(frame) for frame in frames(data)]
    except BadRecord as bad:
        return [bad.findings[0].code]


@given(st.binary(max_size=200) | st.text(st.sampled_from('{}[]",:\\ aE'), max_size=80).map(str.encode))
@settings(deadline=None)
def test_no_bytes_break_the_splitter_or_the_parser(data: bytes) -> None:
    seen = {*all_that_became_of(data), *all_that_became_of(b'{"resourceType":"Bundle","entry":[' + data + b"]}")}
    assert seen <= {"not-a-bundle", "truncated", "not-an-entry", "not-a-resource", "no-resource", "not-json"}


def test_a_bundle_of_many_entries_is_read_in_the_memory_of_a_few() -> None:
    entry = json.dumps({"fullUrl": "http://x/Basic/1", "resource": {"resourceType": "Basic", "id": "x" * 900}}).encode()

    def file() -> Iterator[bytes]:
        yield b'{"resourceType":"Bundle","entry":['
        for _ in range(199):
            yield (entry + b",") * 100
        yield entry + b"]}"

    tracemalloc.start()
    try:
        count = sum(1 for _ in FORMAT.split(file()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 19_901
    assert peak < 2_000_000


def test_an_entry_beyond_the_limit_is_not_held() -> None:
    def file() -> Iterator[bytes]:
        yield b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"Binary","data":"'
        for _ in range(300):
            yield b"A" * 100_000
        yield b'"}}]}'

    tracemalloc.start()
    try:
        (frame,) = BundleFormat(Profile("north"), 200_000).split(file())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert refusal(frame) == "too-large"
    assert peak < 2_000_000


@pytest.mark.parametrize("url", ["Patient/p1", "http://x/fhir/Patient/p1", "Patient?identifier=1", "/Patient/p1"])
def test_an_entry_that_is_put_where_it_says_or_where_a_condition_says_is_taken(url: str) -> None:
    (frame,) = frames(bundle({"resource": PATIENT, "request": {"method": "PUT", "url": url}}))
    assert FORMAT.parse(frame).content == PATIENT


def test_two_things_of_one_urn_are_not_mixed_up() -> None:
    other = {"resourceType": "Basic", "id": "b"}
    first, again, second = frames(
        bundle(*({"fullUrl": "urn:uuid:b", "resource": one} for one in (PATIENT, PATIENT, other)))
    )
    assert FORMAT.parse(first).content == FORMAT.parse(again).content == PATIENT
    assert refusal(second) == "duplicate-full-url"


def test_an_entry_that_has_one_of_its_parts_twice_is_refused() -> None:
    text = bundle({"resource": PATIENT}).replace(b'"resource"', b'"resource": {"resourceType": "Basic"}, "resource"')
    assert [refusal(frame) for frame in frames(text)] == ["duplicate-key"]


def test_what_another_sluice_marked_as_withdrawn_is_a_deletion() -> None:
    mark = {"url": "urn:sluice:deleted", "valueBoolean": True}
    said, unsaid = frames(
        bundle(
            {"resource": PATIENT, "extension": [mark]}, {"resource": PATIENT, "extension": [{**mark, "url": "urn:x"}]}
        )
    )
    assert FORMAT.parse(said).content == {"resourceType": "Patient", "id": "p1"}
    assert said.context["deletes"] == "Patient/p1"
    assert "deletes" not in unsaid.context
