"""What every source of files keeps, the in-memory fake included: nothing lost, nothing twice, resumable."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sources_rigs import DirectoryRig, MemoryRig, Rig, S3Rig, SftpRig

from tasks.errors import BadRecord, Transient
from tasks.model import Offer
from tasks.source.files import FileSource
from tasks.source.memory import MemoryState
from tasks.source.port import Ready

KINDS = ["memory", "directory", "sftp", "s3"]
NAMES = ["a.hl7", "Müller größe.hl7", "日本語 ☃.hl7", "nafai\u0308ve.hl7", "with space & 'quote'.hl7", "[x]*?.hl7"]
_numbers = itertools.count(1)


@pytest.fixture(params=KINDS)
def rig(request: pytest.FixtureRequest, tmp_path) -> Iterator[Rig]:
    made = _rig(request, tmp_path)
    yield made
    made.close()


def _rig(request: pytest.FixtureRequest, tmp_path) -> Rig:
    if request.param == "memory":
        return MemoryRig()
    if request.param == "directory":
        return DirectoryRig(tmp_path / "drop")
    if request.param == "s3":
        s3 = request.getfixturevalue("s3_server")
        return S3Rig(s3.client(), s3.connection(""), f"zone-{next(_numbers)}")
    server = request.getfixturevalue("sftp_server")
    return SftpRig(server.partner("northside") / f"zone{next(_numbers)}", server.connection("northside"))


def land(source: FileSource, state: MemoryState) -> list[tuple[str, bytes]]:
    """One poll as the flow does it: read, commit, finish, done."""
    taken = []
    for offer in source.poll(state):
        taken.append((offer.name, b"".join(source.read(offer))))
        state.land(offer)
        source.finish(offer, state)
    source.done(state)
    return taken


def offers(source: FileSource, state: MemoryState) -> dict[str, Offer]:
    return {offer.name: offer for offer in source.poll(state)}


def test_every_file_is_handed_over_once_with_its_bytes_and_its_name(rig: Rig) -> None:
    for name in NAMES:
        rig.drop(name, name.encode())
    source, state = rig.source(), MemoryState()
    assert sorted(land(source, state)) == sorted((name, name.encode()) for name in NAMES)
    assert land(source, state) == []


def test_only_names_that_match_are_taken(rig: Rig) -> None:
    for name in ("a.hl7", "b.HL7", "c.csv", "d.txt", ".a.hl7", "below/e.hl7"):
        rig.drop(name, b"x")
    assert sorted(offers(rig.source(match="*.hl7"), MemoryState())) == ["a.hl7"]
    assert sorted(offers(rig.source(match=("*.hl7", "*.csv")), MemoryState())) == ["a.hl7", "c.csv"]
    assert sorted(offers(rig.source(match="**/*.hl7"), MemoryState())) == ["a.hl7", "below/e.hl7"]


def test_an_empty_file_is_a_delivery_of_no_bytes(rig: Rig) -> None:
    rig.drop("empty.csv", b"")
    source, state = rig.source(), MemoryState()
    assert land(source, state) == [("empty.csv", b"")]
    assert land(source, state) == []


def test_a_large_file_arrives_whole_and_in_pieces(rig: Rig) -> None:
    data = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(300_000))
    rig.drop("large.bin", data)
    source = rig.source()
    (offer,) = source.poll(MemoryState())
    chunks = list(source.read(offer))
    assert offer.size == len(data)
    assert max(map(len, chunks)) <= 1 << 20
    assert hashlib.sha256(b"".join(chunks)).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("offset", [0, 1, 32767, 32768, 65537, 199_999, 200_000])
def test_reading_goes_on_from_any_offset(rig: Rig, offset: int) -> None:
    data = bytes(range(250)) * 800
    rig.drop("a.bin", data)
    source = rig.source()
    (offer,) = source.poll(MemoryState())
    assert b"".join(source.read(offer, offset)) == data[offset:]


def test_reading_that_was_given_up_can_begin_again(rig: Rig) -> None:
    data = bytes(range(250)) * 8000
    rig.drop("a.bin", data)
    source = rig.source()
    (offer,) = source.poll(MemoryState())
    for _ in range(12):
        next(source.read(offer))
    assert b"".join(source.read(offer)) == data


def test_a_new_process_goes_on_where_the_old_one_was(rig: Rig) -> None:
    rig.drop("a.hl7", b"a")
    rig.drop("b.hl7", b"b")
    state = MemoryState()
    first = rig.source()
    one = next(iter(first.poll(state)))
    state.land(one)
    left = {"a.hl7", "b.hl7"} - {one.name}
    assert {name for name, _ in land(rig.source(), state)} == left


def test_a_name_that_comes_again_with_other_bytes_is_offered_again(rig: Rig) -> None:
    rig.drop("a.hl7", b"first")
    source, state = rig.source(), MemoryState()
    assert land(source, state) == [("a.hl7", b"first")]
    rig.drop("a.hl7", b"other")
    assert land(source, state) == [("a.hl7", b"other")]
    assert land(source, state) == []


def test_a_file_dropped_again_unchanged_is_offered_again_for_the_ledger_to_see_the_duplicate(rig: Rig) -> None:
    source, state = rig.source(after="archive"), MemoryState()
    for _ in range(2):
        rig.drop("a.hl7", b"same")
        assert land(source, state) == [("a.hl7", b"same")]


def test_a_file_replaced_between_poll_and_read_is_transient_and_then_taken_as_it_is(rig: Rig) -> None:
    rig.drop("a.hl7", b"x" * 1000)
    source, state = rig.source(), MemoryState()
    (offer,) = source.poll(state)
    rig.drop("a.hl7", b"y" * 1000)
    with pytest.raises(Transient):
        b"".join(source.read(offer))
    assert land(source, state) == [("a.hl7", b"y" * 1000)]


def test_of_a_file_replaced_while_it_is_read_no_mixture_is_handed_over(rig: Rig) -> None:
    old, new = b"x" * 9_000_000, b"y" * 9_000_001
    rig.drop("a.hl7", old)
    source, state = rig.source(after="archive"), MemoryState()
    (offer,) = source.poll(state)
    chunks = source.read(offer)
    first = next(chunks)
    rig.drop("a.hl7", new)
    try:
        whole = first + b"".join(chunks)
    except Transient:
        pass
    else:
        assert whole == old
        state.land(offer)
        source.finish(offer, state)
    assert land(source, state) == [("a.hl7", new)]


def test_a_file_withdrawn_between_poll_and_read_is_transient(rig: Rig) -> None:
    rig.drop("a.hl7", b"x")
    source, state = rig.source(), MemoryState()
    (offer,) = source.poll(state)
    rig.remove("a.hl7")
    with pytest.raises(Transient) as raised:
        b"".join(source.read(offer))
    assert "a.hl7" not in str(raised.value)
    assert land(source, state) == []


def test_one_file_that_fails_leaves_the_others_to_be_taken(rig: Rig) -> None:
    for name in ("a", "b", "c"):
        rig.drop(name, name.encode())
    source, state = rig.source(), MemoryState()
    for offer in source.poll(state):
        if offer.name != "b":
            state.land(offer)
    assert land(source, state) == [("b", b"b")]


@pytest.mark.parametrize(("after", "left"), [("leave", ["a.hl7"]), ("archive", ["archive/a.hl7"]), ("delete", [])])
def test_what_is_done_after_landing_can_be_done_twice(rig: Rig, after: str, left: list[str]) -> None:
    rig.drop("a.hl7", b"x")
    source, state = rig.source(after=after), MemoryState()
    (offer,) = source.poll(state)
    state.land(offer)
    assert rig.names() == ["a.hl7"]
    source.finish(offer, state)
    source.finish(offer, state)
    assert rig.names() == left
    assert land(source, state) == []


@pytest.mark.parametrize(("after", "left"), [("archive", ["archive/a.hl7"]), ("delete", [])])
def test_a_crash_between_landing_and_finishing_is_made_good_by_the_next_poll(
    rig: Rig, after: str, left: list[str]
) -> None:
    rig.drop("a.hl7", b"x")
    state = MemoryState()
    (offer,) = rig.source(after=after).poll(state)
    state.land(offer)
    assert land(rig.source(after=after), state) == []
    assert rig.names() == left


def test_archived_files_of_the_same_name_are_all_kept(rig: Rig) -> None:
    source, state = rig.source(after="archive"), MemoryState()
    for n in range(4):
        rig.drop("a.hl7", b"%d" % n)
        assert land(source, state) == [("a.hl7", b"%d" % n)]
    names = rig.names()
    assert len(names) == 4
    assert all(name.startswith("archive/a.hl7") for name in names)


@pytest.mark.parametrize("after", ["archive", "delete"])
def test_a_newer_version_is_not_archived_or_deleted_in_the_old_ones_place(rig: Rig, after: str) -> None:
    rig.drop("a.hl7", b"old")
    source, state = rig.source(after=after), MemoryState()
    (offer,) = source.poll(state)
    state.land(offer)
    rig.drop("a.hl7", b"new")
    source.finish(offer, state)
    assert land(source, state) == [("a.hl7", b"new")]


def test_archives_are_not_listed_again_when_subfolders_are(rig: Rig) -> None:
    rig.drop("x/a.hl7", b"x")
    source, state = rig.source(after="archive", match="**/*.hl7"), MemoryState()
    assert land(source, state) == [("x/a.hl7", b"x")]
    assert rig.names() == ["x/archive/a.hl7"]
    assert land(rig.source(after="archive", match="**/*.hl7"), MemoryState()) == []


def test_a_file_that_is_still_growing_is_taken_once_and_whole(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(stable_polls=2)), MemoryState()
    for data in (b"1", b"12", b"123"):
        rig.drop("a.hl7", data)
        assert land(source, state) == []
    assert land(source, state) == [("a.hl7", b"123")]
    assert land(source, state) == []


def test_a_marker_makes_a_file_ready_and_goes_with_it(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(marker="{name}.done"), after="archive"), MemoryState()
    rig.drop("a.hl7", b"x")
    rig.drop("b.hl7", b"y")
    assert land(source, state) == []
    rig.drop("b.hl7.done", b"")
    assert land(source, state) == [("b.hl7", b"y")]
    assert rig.names() == ["a.hl7", "archive/b.hl7", "archive/b.hl7.done"]


def test_a_correction_under_an_old_marker_has_to_be_stable(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(marker="{name}.done")), MemoryState()
    rig.drop("a.hl7", b"x")
    rig.drop("a.hl7.done", b"")
    assert land(source, state) == [("a.hl7", b"x")]
    rig.drop("a.hl7", b"half of")
    assert land(source, state) == []
    rig.drop("a.hl7", b"half of it no more")
    assert land(source, state) == []
    assert land(source, state) == [("a.hl7", b"half of it no more")]


def test_names_with_the_upload_suffix_are_not_there_yet(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(rename_from=".part")), MemoryState()
    rig.drop("a.hl7.part", b"hal")
    assert land(source, state) == []
    rig.remove("a.hl7.part")
    rig.drop("a.hl7", b"half no more")
    assert land(source, state) == [("a.hl7", b"half no more")]


def manifest(form: str, files: dict[str, bytes]) -> bytes:
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if form == "sha256sum":
        return "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    rows = [{"name": name, "size": len(data), "sha256": sums[name], "records": 7} for name, data in files.items()]
    if form == "json":
        return json.dumps({"files": rows}).encode()
    return "\n".join(["name,size,sha256,records", *(",".join(map(str, row.values())) for row in rows)]).encode()


@pytest.mark.parametrize("form", ["csv", "json", "sha256sum"])
def test_a_manifest_says_which_files_are_whole_and_what_is_in_them(rig: Rig, form: str) -> None:
    files = {"a.csv": b"aaa", "größe.csv": b"bb"}
    source, state = rig.source(ready=Ready(manifest="*.mft"), after="archive"), MemoryState()
    for name, data in files.items():
        rig.drop(name, data)
    rig.drop("other.csv", b"not listed")
    assert land(source, state) == []
    rig.drop("day.mft", manifest(form, files))
    assert land(source, state) == []
    found = offers(source, state)
    assert {name: offer.meta["findings"] for name, offer in found.items()} == {name: [] for name in files}
    assert found["a.csv"].meta["expect"]["sha256"] == hashlib.sha256(b"aaa").hexdigest()
    assert found["a.csv"].meta["expect"].get("records") == (None if form == "sha256sum" else 7)
    assert sorted(land(source, state)) == sorted(files.items())
    assert rig.names() == ["archive/a.csv", "archive/day.mft", "archive/größe.csv", "other.csv"]


def test_a_file_that_disagrees_with_its_manifest_is_offered_with_what_is_wrong(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(manifest="*.mft")), MemoryState()
    rig.drop("a.csv", b"too short")
    rig.drop("b.csv", b"replaced")
    rig.drop("day.mft", manifest("csv", {"a.csv": b"as it should be", "b.csv": b"original", "c.csv": b"absent"}))
    found: dict[str, Offer] = {}
    for _ in range(3):
        found |= offers(source, state)
    codes = {name: {each["code"] for each in offer.meta["findings"]} for name, offer in found.items()}
    assert codes["a.csv"] == {"manifest-size-mismatch", "manifest-file-absent"}
    assert codes["b.csv"] == {"manifest-file-absent"}
    with pytest.raises(BadRecord, match="manifest-checksum-mismatch"):
        b"".join(source.read(found["b.csv"]))


def test_a_manifest_that_cannot_be_read_is_offered_itself_with_a_finding(rig: Rig) -> None:
    source, state = rig.source(ready=Ready(manifest="*.mft")), MemoryState()
    rig.drop("a.csv", b"x")
    rig.drop("day.mft", b"{nonsense")
    offers(source, state)
    found = offers(source, state)
    assert [each["code"] for each in found["day.mft"].meta["findings"]] == ["manifest-unreadable"]
    assert "a.csv" not in found


def test_half_a_manifests_files_landed_before_a_crash_say_nothing_of_absent_ones(rig: Rig) -> None:
    files = {"a.csv": b"aaa", "b.csv": b"bb"}
    state = MemoryState()
    options = {"ready": Ready(manifest="*.mft"), "after": "delete"}
    for name, data in files.items():
        rig.drop(name, data)
    rig.drop("day.mft", manifest("csv", files))
    source = rig.source(**options)
    offers(source, state)
    first = offers(source, state)["a.csv"]
    state.land(first)
    source.finish(first, state)
    assert offers(rig.source(**options), state)["b.csv"].meta["findings"] == []


def test_several_files_can_be_read_at_once(rig: Rig) -> None:
    files = {f"{n}.bin": bytes([n]) * 400_000 for n in range(12)}
    for name, data in files.items():
        rig.drop(name, data)
    source = rig.source()
    found = offers(source, MemoryState())
    with ThreadPoolExecutor(6) as pool:
        read = dict(pool.map(lambda offer: (offer.name, b"".join(source.read(offer))), found.values()))
    assert read == files


def test_reading_while_the_listing_is_still_going_on_loses_nothing(rig: Rig) -> None:
    files = {f"{n:04}.hl7": b"%d" % n for n in range(220)}
    for name, data in files.items():
        rig.drop(name, data)
    assert dict(land(rig.source(after="delete"), MemoryState())) == files
    assert rig.names() == []
