"""FHIR NDJSON through the store: digits, versions, and what no store could keep."""

from __future__ import annotations

FEED = """
source: {{kind: directory, connection: drop, ready: {{stable_polls: 1}}}}
format: fhir-ndjson
fhir_version: {}
timezone: UTC
"""


def observation(ident, value="1.10", more=""):
    return (
        f'{{"resourceType":"Observation","id":"{ident}","status":"final","code":{{"text":"x"}},'
        f'"valueQuantity":{{"value":{value},"unit":"mmol/L"}}{more}}}\n'
    )


def test_a_number_has_in_the_store_the_digits_it_came_with(site):
    site.configure(FEED.format("4.0.1"))
    given = ["1.10", "0.00", "5", "123456789012345678.90", "1E-7"]
    site.write("day.ndjson", *(observation(f"o{i}", value) for i, value in enumerate(given)))
    site.run()
    kept = site.rows("select (resource->'valueQuantity'->>'value') from fhir.resource order by record_id")
    assert [row[0] for row in kept] == ["1.10", "0.00", "5", "123456789012345678.90", "0.0000001"]


def test_what_the_store_could_not_keep_stops_itself_alone(site):
    site.configure(FEED.format("4.0.1"))
    bad = [
        observation("b1", "1E+999999999"),
        observation("b2", "1E-999999999"),
        observation("b3", more=',"language":"a\\u0000"'),
        observation("b4", more=',"identifier":[{"system":"urn:\\u0000","value":"x"}]'),
        observation("b5", more=',"status":"final"'),
        observation("b6", more=',"note":[{"text":"\\ud800"}]'),
        observation("b7", more=',"dataAbsentReason":{"text":"x"}'),
    ]
    site.write("day.ndjson", observation("g1"), *bad, observation("g2"))
    counts = site.run()
    assert (counts["published"], counts["quarantined"], counts["in_flight"]) == (2, len(bad), 0)
    assert site.rows("select code, location from ledger.quarantine order by record_id") == [
        ("number-out-of-range", "line 2"),
        ("number-out-of-range", "line 3"),
        ("fhir-format", "Observation.language"),
        ("fhir-format", "Observation.identifier[0].system"),
        ("duplicate-key", "Observation.status"),
        ("not-json", "line 7"),
        ("fhir-invariant-obs-6", "Observation"),
    ]


def test_each_version_of_fhir_is_checked_as_its_own_and_stored_with_it(site):
    r4 = '{"resourceType":"Encounter","id":"e4","status":"finished","class":{"code":"IMP"}}\n'
    r5 = '{"resourceType":"Encounter","id":"e5","status":"completed","class":[{"text":"IMP"}]}\n'
    for name, version in (("a.ndjson", "5.0.0"), ("b.ndjson", "4.0.1")):
        site.configure(FEED.format(version))
        site.write(name, r4, r5, "\n" if version == "5.0.0" else "")
        site.run()
    assert site.rows("select fhir_version, resource->>'status' from fhir.resource order by 1") == [
        ("4.0.1", "finished"),
        ("5.0.0", "completed"),
    ]
    said = site.rows("select distinct code, location from ledger.quarantine")
    assert said == [("fhir-other-version", "Encounter")]
