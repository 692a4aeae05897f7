"""Names of files: globs, names that lead out, and names that are not UTF-8."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model import Offer
from tasks.source.files_names import content_id, deep, matcher, patterns, raw_name, readable, safe, spelled


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("*.hl7*", ["a.hl7", "a.hl7.txt", "größe.hl7"], ["a.HL7", ".a.hl7", "b/a.hl7", "a.hl7/b", "hl7"]),
        ("lab-??.csv", ["lab-01.csv"], ["lab-1.csv", "lab-0/.csv", "xlab-01.csv"]),
        ("[ab]*.csv", ["a.csv", "bx.csv"], ["c.csv", "[ab].csv"]),
        ("[!ab]*.csv", ["c.csv"], ["a.csv", "/.csv", ".csv"]),
        ("[]]x", ["]x"], ["x"]),
        ("**/*.csv", ["a.csv", "x/a.csv", "x/y/a.csv"], [".x/a.csv", "x/.a.csv", "a.txt"]),
        ("in/*/a", ["in/x/a"], ["in/a", "in/x/y/a"]),
        (".*.tmp", [".a.tmp"], ["a.tmp"]),
        ("a+b(1).csv", ["a+b(1).csv"], ["aab1.csv", "a+b1.csv"]),
        ("a[", ["a["], ["a"]),
    ],
)
def test_a_glob_matches_what_it_says_and_nothing_else(glob: str, matching: list[str], other: list[str]) -> None:
    wanted = matcher((glob,))
    assert [name for name in matching if not wanted(name)] == []
    assert [name for name in other if wanted(name)] == []


def test_one_of_several_globs_is_enough() -> None:
    wanted = matcher(patterns(("*.csv", "*.txt")))
    assert [wanted(name) for name in ("a.csv", "a.txt", "a.hl7")] == [True, True, False]
    assert (deep(("*.csv",)), deep(("*.csv", "x/*"))) == (False, True)


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/", "a//b", "../a", "a/..", "a/./b", "a\0b"])
def test_a_name_that_leads_out_or_is_none_is_not_safe(name: str) -> None:
    assert not safe(name)


@given(st.binary(min_size=1).filter(lambda raw: b"/" not in raw and b"\0" not in raw))
def test_any_bytes_of_a_name_come_back_as_they_were(raw: bytes) -> None:
    name = readable(raw)
    assert raw_name(Offer(name, "1", 1, spelled(raw))) == raw
    assert name.encode()


def test_a_message_speaks_of_a_file_without_its_name() -> None:
    assert content_id("DOE^JANE.hl7") == content_id("DOE^JANE.hl7") != content_id("ROE^JANE.hl7")
    assert "DOE" not in content_id("DOE^JANE.hl7")
