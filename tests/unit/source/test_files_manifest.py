"""Manifests in the forms in which partners send them."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tasks.source.files_manifest import Listed, disagreements, parse
from tasks.source.files_ready import Entry, named
from tasks.source.port import FileOptions, Ready

SUM = hashlib.sha256(b"x").hexdigest()
MD5 = hashlib.md5(b"x", usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        (f"{SUM}  a b.csv\n", [Listed("a b.csv", None, "sha256", SUM)]),
        (f"{SUM} *a.csv\n{MD5}  b.csv\n", [Listed("a.csv", None, "sha256", SUM), Listed("b.csv", None, "md5", MD5)]),
        ("name,size\na.csv,12\n", [Listed("a.csv", 12)]),
        ("\ufeffFile;Bytes;MD5;Rows\r\na.csv;12;" + MD5.upper() + ";3\r\n", [Listed("a.csv", 12, "md5", MD5, 3)]),
        ('name,records\n"a, b.csv",5\n', [Listed("a, b.csv", None, None, None, 5)]),
        ("# made by us\nfilename|checksum\na.csv|sha256:" + SUM + "\n", [Listed("a.csv", None, "sha256", SUM)]),
        ('{"files": [{"name": "a.csv", "size": 1, "sha256": "' + SUM + '"}]}', [Listed("a.csv", 1, "sha256", SUM)]),
        ('[{"file": "a.csv", "count": "7"}]', [Listed("a.csv", None, None, None, 7)]),
        (json.dumps({"a.csv": SUM, "b.csv": {"size": 2}}), [Listed("a.csv", None, "sha256", SUM), Listed("b.csv", 2)]),
    ],
)
def test_each_form_is_understood(text: str, listed: list[Listed]) -> None:
    assert parse(text.encode()) == listed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\xff\xfe",
        b"{",
        b"[1]",
        b'{"files": 3}',
        b"a.csv\n",
        b"size\n3\n",
        b"name,size\na.csv,many\n",
        b"name,sha256\na.csv,abc\n",
        f"name,sha256\na.csv,{MD5}\n".encode(),
        b"name,size\na.csv,-1\n",
    ],
)
def test_what_is_no_manifest_is_said_without_its_text(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"manifest|JSON") as raised:
        parse(data)
    assert "a.csv" not in str(raised.value)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_a_value_error(data: bytes) -> None:
    try:
        assert all(each.name for each in parse(data))
    except ValueError as error:
        assert str(error)


def test_names_are_relative_to_the_manifests_folder_and_stay_there() -> None:
    manifest = Entry("in/day.mft", "1", 1)
    assert set(named(manifest, b"name,size\n./a.csv,1\nx/b.csv,2\n")) == {"in/a.csv", "in/x/b.csv"}
    with pytest.raises(ValueError, match="outside its folder"):
        named(manifest, b"name,size\n../a.csv,1\n")


def test_a_size_that_differs_is_a_finding_of_the_manifest() -> None:
    assert disagreements(Listed("a", 3), 3) == ()
    assert disagreements(Listed("a"), 3) == ()
    assert [each.code for each in disagreements(Listed("a", 3), 4)] == ["manifest-size-mismatch"]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"stable_polls": 2, "marker": "{name}.ok"},
        {"stable_polls": 0},
        {"marker": "done"},
        {"rename_from": ""},
        {"x": 1},
    ],
)
def test_ready_takes_exactly_one_rule(rule: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FileOptions.model_validate({"kind": "sftp", "ready": rule})
    assert FileOptions(kind="sftp").ready == Ready(stable_polls=2)
