"""What is asked of a bulk server, and where."""

from __future__ import annotations

import httpx
import pytest

from tasks.errors import ConfigError
from tasks.source.bulk_job import read_pages
from tasks.source.bulk_request import ExportRequest, instant


@pytest.mark.parametrize(
    ("url", "more", "base", "kick_off"),
    [
        ("https://h/fhir", {}, "https://h/fhir", "https://h/fhir/$export"),
        ("https://h/fhir/", {"group": "g"}, "https://h/fhir", "https://h/fhir/Group/g/$export"),
        ("https://h/fhir", {"level": "patient"}, "https://h/fhir", "https://h/fhir/Patient/$export"),
        ("https://h/fhir/$export", {}, "https://h/fhir", "https://h/fhir/$export"),
        ("https://h/fhir/Patient/$export?_type=A", {}, "https://h/fhir", "https://h/fhir/Patient/$export"),
        ("https://h/fhir/Group/x-1/$export", {}, "https://h/fhir", "https://h/fhir/Group/x-1/$export"),
        ("https://h/fhir/Group/x-1", {}, "https://h/fhir", "https://h/fhir/Group/x-1/$export"),
        ("https://h", {}, "https://h", "https://h/$export"),
    ],
)
def test_the_kick_off_and_the_base_follow_from_the_url(url, more, base, kick_off):
    request = ExportRequest(url, **more)
    assert (request.base, request.kick_off) == (base, kick_off)


def test_the_parameters_of_the_url_stay_unless_ours_say_otherwise():
    request = ExportRequest("https://h/$export?_type=A&_outputFormat=ndjson", types=("Patient", "Group"))
    assert dict(request.parameters()) == {"_type": "Patient,Group", "_outputFormat": "ndjson"}


@pytest.mark.parametrize("more", [{"since": "yesterday"}, {"since": "2024-01-01T00:00:00"}, {"types": ("pat ient",)}])
def test_a_part_that_cannot_be_meant_is_a_mistake(more):
    with pytest.raises(ConfigError):
        ExportRequest("https://h", **more)


def test_a_group_beside_a_kick_off_url_is_a_mistake():
    with pytest.raises(ConfigError, match="kick-off URL already"):
        ExportRequest("https://h/$export", group="g")


def test_a_date_is_its_midnight_in_utc():
    assert instant("2024-01-31") == "2024-01-31T00:00:00Z"
    assert instant("2024-01-31T01:00:00-05:00") == "2024-01-31T01:00:00-05:00"


def test_another_request_has_another_fingerprint():
    first = ExportRequest("https://h/fhir")
    assert first.fingerprint() == ExportRequest("https://h/fhir/").fingerprint()
    assert first.fingerprint() != ExportRequest("https://h/fhir", types=("Patient",)).fingerprint()


def test_a_manifest_that_is_not_what_it_should_be_is_read_as_far_as_it_goes():
    page = {
        "transactionTime": 7,
        "requiresAccessToken": "yes",
        "output": [{"type": "Patient", "url": "a"}, {"type": "Patient", "url": "a"}, {"type": "Patient"}, "x", None],
        "deleted": None,
        "error": {"type": "OperationOutcome"},
        "link": "next",
    }
    manifest = read_pages([page], "https://h/status/1")
    assert [(file.name, file.url) for file in manifest.files] == [("Patient.000.ndjson", "https://h/status/a")]
    assert (manifest.transaction_time, manifest.requires_token, len(manifest.problems)) == ("", None, 4)
    assert httpx.URL(manifest.files[0].url).host == "h"
