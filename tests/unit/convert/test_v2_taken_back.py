"""What a message withdraws: an event that did not happen, a role, a diagnosis, an allergy that was entered in error."""

from __future__ import annotations

from typing import Any

import pytest

from mappings.engine.model import Conversion
from mappings.engine.slots import assemble
from tests.v2_messages import message, one, only, resources, seg

VISIT = {2: "I", 3: "W4^401^A^NS", 19: "V1^^^NS^VN"}


def adt(event: str, *segments: str) -> Conversion:
    patient = seg("PID", {3: "1^^^NS^MR", 5: "Doe^Jane"})
    return one(message(f"ADT^{event}", f"EVN|{event}|20240301||||20240301", patient, *segments))


def folded(kind: str, *conversions: Conversion) -> dict[str, Any]:
    """Return what the store makes of a thing that messages speak of one after the other."""
    slots: dict[str, Any] = {}
    for conversion in conversions:
        (entry,) = [e for e in conversion.entries if e.resource["resourceType"] == kind]
        slots |= entry.slots or {}
    return assemble(kind, "x", slots)


@pytest.mark.parametrize(
    ("event", "cancel", "said"),
    [
        ("A02", "A12", {6: "W3^301^A^NS"}),
        ("A15", "A26", {42: "W5^501^A^NS"}),
        ("A09", "A33", {11: "RAD^^^NS"}),
        ("A10", "A32", {11: "RAD^^^NS"}),
    ],
)
def test_a_place_that_came_to_nothing_is_no_place_of_the_visit(event: str, cancel: str, said: dict[int, str]) -> None:
    moved, cancelled = adt(event, seg("PV1", VISIT | said)), adt(cancel, seg("PV1", VISIT))
    assert len(folded("Encounter", moved)["location"]) == 2
    assert [place["status"] for place in folded("Encounter", moved, cancelled)["location"]] == ["active"]


@pytest.mark.parametrize(("cancel", "field"), [("A12", 6), ("A26", 42)])
def test_a_cancellation_that_says_the_place_notes_that_it_is_not_carried(cancel: str, field: int) -> None:
    conversion = adt(cancel, seg("PV1", VISIT | {field: "W5^501^A^NS"}))
    assert len(only(conversion, "Encounter")["location"]) == 1
    assert ("outranked", f"PV1-{field}") in {(f.code, f.location) for f in conversion.findings}


def test_a_discharge_that_is_pending_no_more_has_no_planned_end() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    pending = one(message("ADT^A16", "EVN|A16|20240301|20240305", patient, seg("PV1", VISIT)))
    cancelled = one(message("ADT^A25", "EVN|A25|20240302|20240305", patient, seg("PV1", VISIT)))
    assert "extension" in folded("Encounter", pending)
    assert "extension" not in folded("Encounter", pending, cancelled)


def test_who_goes_on_leave_is_expected_back() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    for conversion in (
        one(message("ADT^A21", "EVN|A21|20240301|20240303", patient, seg("PV1", VISIT))),
        one(message("ADT^A21", "EVN|A21|20240301", patient, seg("PV1", VISIT), seg("PV2", {47: "20240303"}))),
    ):
        (extension,) = only(conversion, "Encounter")["extension"]
        assert extension == {"url": "urn:sluice:encounter-expected-return", "valueDateTime": "2024-03-03"}
        assert only(conversion, "Encounter")["status"] == "onleave"


def test_a_physician_who_is_removed_is_not_the_general_practitioner() -> None:
    before = adt("A61", "ROL|1|AD|PP|5^Old^Ann", seg("PV1", VISIT))
    after = adt("A62", "ROL|1|DE|PP|5^Old^Ann", seg("PV1", VISIT))
    assert folded("Patient", before)["generalPractitioner"]
    assert "generalPractitioner" not in folded("Patient", before, after)
    both = adt("A62", "ROL|1|DE|PP|5^Old^Ann", "ROL|2|AD|PP|6^New^Bob", seg("PV1", VISIT))
    assert len(folded("Patient", before, both)["generalPractitioner"]) == 1


def test_a_diagnosis_that_is_deleted_is_none_of_the_visit() -> None:
    conversion = adt("A08", seg("PV1", VISIT), seg("DG1", {3: "I10^HTN^I10", 6: "F", 21: "D"}))
    assert only(conversion, "Condition")["verificationStatus"]["coding"][0]["code"] == "entered-in-error"
    assert "diagnosis" not in only(conversion, "Encounter")


def test_a_coverage_that_is_deleted_is_none_of_the_account() -> None:
    patient = seg("PID", {3: "1^^^NS^MR", 18: "AC1"})
    insured = [seg("IN1", {1: "1", 2: "P1", 3: "C1"}), seg("IN1", {1: "2", 2: "P2", 3: "C2", 55: "D"})]
    account = only(one(message("BAR^P05^BAR_P05", patient, *insured)), "Account")
    assert [coverage["priority"] for coverage in account["coverage"]] == [1]


def test_an_allergy_that_is_deleted_was_entered_in_error_whatever_was_said_before() -> None:
    told = adt("A60", "IAM|1|DA|P^Penicillin^L|SV||A|7^NS||||||||||C")
    deleted = adt("A60", "IAM|1|DA|P^Penicillin^L|||D|7^NS||||||||||C")
    assert folded("AllergyIntolerance", told)["verificationStatus"]["coding"][0]["code"] == "confirmed"
    allergy = folded("AllergyIntolerance", told, deleted)
    assert [coding["code"] for coding in allergy["verificationStatus"]["coding"]] == ["entered-in-error"]
    assert "clinicalStatus" not in allergy


@pytest.mark.parametrize(
    ("code", "status", "verification"),
    [
        ("C", "active", "confirmed"),
        ("D", "active", "unconfirmed"),
        ("I", "inactive", "confirmed"),
        ("E", "inactive", "refuted"),
    ],
)
def test_a_doubt_leaves_an_allergy_active(code: str, status: str, verification: str) -> None:
    allergy = only(adt("A60", f"IAM|1|DA|P^Penicillin^L|SV||A|7^NS||||||||||{code}"), "AllergyIntolerance")
    assert allergy["clinicalStatus"]["coding"][0]["code"] == status
    assert allergy["verificationStatus"]["coding"][0]["code"] == verification


def test_a_problem_that_is_deleted_was_entered_in_error_however_sure_it_is() -> None:
    line = seg("PRB", {1: "DE", 2: "20240301", 3: "A^Asthma^L", 4: "7^NS", 13: "C^Confirmed", 14: "A^Active"})
    condition = only(one(message("PPR^PC1^PPR_PC1", seg("PID", {3: "1^^^NS^MR"}), line)), "Condition")
    assert [coding["code"] for coding in condition["verificationStatus"]["coding"]] == ["entered-in-error"]
    assert "clinicalStatus" not in condition


def test_a_referral_that_is_cancelled_is_revoked() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    asked = one(message("REF^I12^REF_I12", "RF1|A|||||R1^NS", patient))
    cancelled = one(message("REF^I14^REF_I12", "RF1|A|||||R1^NS", patient))
    assert folded("ServiceRequest", asked)["status"] == "active"
    assert folded("ServiceRequest", asked, cancelled)["status"] == "revoked"


def test_the_status_of_a_bed_is_its_location_s() -> None:
    conversion = one(message("ADT^A20", "EVN|A20|20240301", "NPU|W4^401^A^NS|H"))
    (bed,) = [place for place in resources(conversion, "Location") if "operationalStatus" in place]
    assert (bed["name"], bed["operationalStatus"]["code"]) == ("A", "H")


@pytest.mark.parametrize(
    ("orc", "requester", "lost"),
    [
        ({21: "Clinic", 22: "1 Rd", 23: "^WPN^PH^^1^2^3"}, "Organization", set()),
        ({12: "9^Doc^A", 24: "2 Rd"}, "PractitionerRole", set()),
        ({12: "9^Doc^A", 22: "1 Rd", 23: "^WPN^PH^^1^2^3"}, "PractitionerRole", {"ORC-22", "ORC-23"}),
        ({24: "2 Rd"}, None, {"ORC-24"}),
    ],
)
def test_who_orders_is_reached_where_the_order_says_it(
    orc: dict[int, str], requester: str | None, lost: set[str]
) -> None:
    conversion = one(
        message("ORM^O01", seg("PID", {3: "1^^^NS^MR"}), seg("ORC", {1: "NW", 2: "P1", **orc}), "OBR|1|P1||A")
    )
    pointer = only(conversion, "ServiceRequest").get("requester", {}).get("reference", "")
    assert pointer.partition("/")[0] == (requester or "")
    assert {f.location for f in conversion.findings if f.code == "address-of-nobody"} == lost
    addresses = [a for e in conversion.entries for a in e.resource.get("address", ())]
    assert len(addresses) == sum(at in orc and f"ORC-{at}" not in lost for at in (22, 24))


def test_results_do_not_take_back_the_status_of_their_order() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    asked = one(message("ORM^O01", patient, "ORC|NW|P1^EHR", "OBR|1|P1^EHR||A"))
    done = one(message("ORU^R01", patient, "ORC|RE|P1^EHR|F1^LAB", "OBR|1|P1^EHR|F1^LAB|A"))
    completed = one(message("ORU^R01", patient, "ORC|RE|P1^EHR|F1^LAB||CM", "OBR|1|P1^EHR|F1^LAB|A"))
    assert folded("ServiceRequest", asked, done)["status"] == "active"
    assert folded("ServiceRequest", asked, completed)["status"] == "completed"


def test_a_specimen_that_the_order_names_is_that_of_the_result() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    order = ["ORC|NW|P1^EHR", "OBR|1|P1^EHR||A", "SPM|1|S1&EHR||BLD"]
    result = ["ORC|RE|P1^EHR|F1^LAB", "OBR|1|P1^EHR|F1^LAB|A", "SPM|1|S1&EHR^FS1&LAB||BLD"]
    found = [
        only(one(message(kind, patient, *lines)), "Specimen")
        for kind, lines in (("OML^O21", order), ("ORU^R01", result))
    ]
    assert found[0]["id"] == found[1]["id"]


def test_what_was_given_does_not_start_a_stopped_order_again() -> None:
    patient = seg("PID", {3: "1^^^NS^MR"})
    stopped = one(message("RDE^O11", patient, "ORC|DC|P1^EHR", "RXE||A^b^L"))
    given = one(message("RAS^O17", patient, "ORC|RE|P1^EHR", "RXA|0|1|20240301||A^b^L|1"))
    assert folded("MedicationRequest", given)["status"] == "active"
    assert folded("MedicationRequest", stopped, given)["status"] == "stopped"
