"""The dictionary of each version, and that its data is what hl7apy says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.parse.v2_compile import DATA, VERSIONS, write, write_shapes
from tasks.parse.v2_dictionary import VERSIONS as READ
from tasks.parse.v2_dictionary import dictionary, shape


@pytest.mark.parametrize("version", VERSIONS)
def test_the_committed_data_is_what_hl7apy_says(version: str) -> None:
    assert Path(DATA / f"v{version}.json").read_text(encoding="utf-8") == write(version)


def test_the_committed_shapes_are_the_widest_of_all_versions() -> None:
    assert Path(DATA / "shapes.json").read_text(encoding="utf-8") == write_shapes()
    assert shape("PV1", 45) == (True, (1,))
    assert shape("ORC", 8) == (False, (4, 4))
    assert shape("OBX", 5) is None
    assert shape("ZPI", 1) is None


def test_the_versions_that_are_compiled_are_those_that_are_read() -> None:
    assert READ == VERSIONS
    assert [dictionary(version).version for version in READ] == list(READ)


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_fields_have_types_tables_and_names(version: str) -> None:
    words = dictionary(version)
    assert words.datatype("PID", 3) == "CX"
    assert words.datatype("OBX", 5) == "varies"
    assert words.table("PID", 8) == "0001"
    assert words.name("PID", 5) == "PATIENT NAME"
    assert words.repeats("PID", 3)
    assert not words.repeats("PID", 7)
    assert words.has("OBX")
    assert not words.has("ZAB")
    assert words.fields("PID") >= 30


def test_components_have_types_tables_and_names() -> None:
    words = dictionary("2.5.1")
    assert [words.component("CX", n) for n in (1, 4, 5)] == ["ST", "HD", "ID"]
    assert words.component_table("CX", 5) == "0203"
    assert words.component_name("CX", 4) == "ASSIGNING AUTHORITY"
    assert words.component(words.component("CX", 4), 2) == "ST"
    assert words.components("CX") == 10
    assert words.components("ST") == 0


def test_what_a_version_does_not_have_is_empty() -> None:
    words = dictionary("2.5.1")
    assert {words.datatype("PID", n) for n in (0, -1, 99)} == {""}
    assert words.datatype("ZAB", 1) == words.component("QQ", 1) == words.table("ZAB", 1) == words.name("PID", 99) == ""
    assert words.fields("ZAB") == 0


@pytest.mark.parametrize(
    ("version", "segment", "n", "components"),
    [("2.1", "MSH", 9, 2), ("2.2", "PID", 3, 4), ("2.2", "OBR", 15, 5), ("2.3", "OBR", 15, 6)],
)
def test_the_cm_shapes_of_old_versions_have_components_by_position(
    version: str, segment: str, n: int, components: int
) -> None:
    words = dictionary(version)
    shape = words.datatype(segment, n)
    assert shape.startswith("CM")
    assert words.components(shape) >= components - 1
    assert words.component(shape, 1)
