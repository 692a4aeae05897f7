"""The definitions that the validator is compiled from are those of the version they name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tasks.validate
from tasks.convert.fhir_types import IDENTIFIED
from tasks.validate.extract import correct
from tasks.validate.structure import structure
from tasks.validate.valuesets import Terminology

DATA = Path(tasks.validate.__file__).parent / "data"


@pytest.mark.parametrize(("version", "count"), [("4.0.1", 146), ("5.0.0", 158)])
def test_every_resource_type_is_there(version: str, count: int) -> None:
    assert len(structure(version).resources) == count


@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
def test_every_type_that_an_element_names_is_defined(version: str) -> None:
    all_types = structure(version)
    names = json.loads((DATA / f"{version}.json").read_bytes())["types"]
    for name in names:
        for prop in all_types.shape(name).properties.values():
            assert prop.primitive or all_types.shape(prop.type).properties, prop
            assert set(prop.targets) <= all_types.resources | {"CanonicalResource", "MetadataResource"}


@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
def test_the_data_says_where_it_is_from(version: str) -> None:
    data = json.loads((DATA / f"{version}.json").read_bytes())
    assert (data["fhir"], data["licence"]) == (version, "CC0-1.0")
    assert data["origin"]


@pytest.mark.parametrize(
    ("version", "unlisted"),
    [
        ("4.0.1", {"currencies", "mimetypes", "ucum-units", "LL379-9"}),
        (
            "5.0.0",
            {
                "all-languages",
                "color-codes",
                "country",
                "currencies",
                "mimetypes",
                "timezones",
                "ucum-units",
                "LL2938-0",
            },
        ),
    ],
)
def test_only_the_value_sets_that_fhir_does_not_list_are_open(version: str, unlisted: set[str]) -> None:
    data = json.loads((DATA / f"{version}.json").read_bytes())
    elements = [element for kind in data["types"].values() for element in kind["elements"].values()]
    bound = {element["binding"] for element in elements if "binding" in element}
    assert {url.rstrip("/").rpartition("/")[2] for url in bound - data["codes"].keys()} == unlisted
    assert all(any(codes.values()) for codes in data["codes"].values())


def test_what_the_distribution_added_to_r4_is_gone() -> None:
    corrections = json.loads((DATA / "4.0.1.corrections.json").read_bytes())["types"]
    types = json.loads((DATA / "4.0.1.json").read_bytes())["types"]
    for name, change in corrections.items():
        if change is None:
            assert name not in types
            continue
        for element, what in change["elements"].items():
            assert types[name]["elements"].get(element) == what


def test_a_correction_of_what_is_not_there_is_loud() -> None:
    with pytest.raises(KeyError):
        correct({}, "4.0.1")


@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
def test_the_converter_knows_which_types_have_identifiers(version: str) -> None:
    found = set()
    for name in structure(version).resources:
        identifier = structure(version).shape(name).properties.get("identifier")
        if identifier and identifier.many:
            found.add(name)
    assert IDENTIFIED[version] == found


def test_a_value_set_is_expanded_with_filters_exclusions_and_abstract_codes() -> None:
    system = {
        "resourceType": "CodeSystem",
        "url": "s",
        "content": "complete",
        "concept": [
            {
                "code": "a",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
                "concept": [{"code": "b", "concept": [{"code": "c"}]}, {"code": "d"}],
            },
            {"code": "e", "property": [{"code": "subsumedBy", "valueCode": "b"}]},
        ],
    }

    def value_set(url: str, **compose: object) -> dict[str, object]:
        return {"resourceType": "ValueSet", "url": url, "compose": compose}

    by_b = {"system": "s", "filter": [{"property": "concept", "op": "is-a", "value": "b"}]}
    terminology = Terminology(
        [
            system,
            value_set("all", include=[{"system": "s"}]),
            value_set("b", include=[by_b]),
            value_set("not-b", include=[{"valueSet": ["all"]}], exclude=[by_b]),
            value_set("both", include=[{"valueSet": ["b"], "system": "s", "concept": [{"code": "c"}, {"code": "d"}]}]),
            value_set("open", include=[{"system": "http://unitsofmeasure.org"}]),
            value_set("regex", include=[{"system": "s", "filter": [{"property": "x", "op": "regex", "value": "."}]}]),
        ]
    )
    assert terminology.codes("all|1.0") == {"s": ["b", "c", "d", "e"]}
    assert terminology.codes("b") == {"s": ["b", "c", "e"]}
    assert terminology.codes("not-b") == {"s": ["d"]}
    assert terminology.codes("both") == {"s": ["c"]}
    assert terminology.codes("open") is None
    assert terminology.codes("regex") is None
    assert terminology.codes("unknown") is None
