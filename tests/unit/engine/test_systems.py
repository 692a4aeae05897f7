"""Names of code systems and their URIs, there and back."""

from __future__ import annotations

import pytest

from mappings.engine.run import _local_system
from mappings.engine.systems import code_system, system_name


@pytest.mark.parametrize("name", ["LN", "SCT", "I10C", "HL70078", "NCIT", "ISO3166_1"])
def test_a_name_of_the_table_comes_back(name: str) -> None:
    uri = code_system(name)
    assert uri is not None
    assert system_name(uri) == name


@pytest.mark.parametrize("name", ["L", "99LAB", "a:b c", "ä"])
def test_a_local_name_comes_back_as_the_sender_wrote_it(name: str) -> None:
    assert system_name(_local_system("southgate", name)) == name


def test_what_has_no_name_stays_a_uri() -> None:
    assert system_name("http://example.org/codes") == "http://example.org/codes"
    assert system_name("urn:oid:1.2.3") == "1.2.3"
