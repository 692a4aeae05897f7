import csv
import io
import re
from datetime import date, datetime
from functools import cache

import boto3
import pytest
from fhir.resources.R4B import get_fhir_model_class
from moto.server import ThreadedMotoServer

from infra.dev.partners import (
    MARKER_NAME,
    MARKER_NUMBER,
    Day,
    big_hl7,
    big_ndjson,
    drop_s3,
    drop_sftp,
    generate,
    moments,
)
from mappings.engine.json import dumps, loads

DAY = date(2026, 11, 19)
CLOCK_BACK, CLOCK_ON = date(2026, 11, 1), date(2026, 3, 8)


@cache
def day(of: date = DAY, seed: int = 1) -> Day:
    return generate(seed, of)


def messages(data: bytes) -> list[str]:
    text = data.decode("latin-1" if b"8859/1" in data[:600] else "utf-8")
    return ["MSH|" + part for part in re.split(r"MSH\|", text)[1:]]


def rows(data: bytes, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig")), delimiter=delimiter))


def everything(of: Day) -> bytes:
    files = b"".join(file.name.encode() + file.data for file in [*of.northside, *of.eastlab])
    return files + dumps(of.county)


def test_the_same_seed_and_day_give_the_same_bytes_and_another_seed_gives_others():
    assert everything(generate(1, DAY)) == everything(day())
    assert everything(day(seed=2)) != everything(day())
    assert generate(1, DAY).expected == day().expected


def test_a_day_has_about_the_size_that_the_demonstration_promises():
    received = {"northside": 0, "eastlab": 0, "county": 0}
    for delivery in day().expected.deliveries:
        received[delivery.feed.split(".")[0]] += delivery.counts.received
    assert 1_800 <= received["northside"] <= 2_500
    assert 4_400 <= received["eastlab"] <= 5_400
    assert 4_600 <= received["county"] <= 5_600


def test_every_delivery_ends_with_all_that_it_received():
    for delivery in day().expected.deliveries:
        counts = delivery.counts
        assert counts.received == counts.published + counts.quarantined + counts.duplicate > 0


def test_the_hospital_tells_of_as_many_patients_visits_and_results_as_expected():
    mrns, visits, reports, observations = set(), set(), set(), set()
    for file in day().northside:
        for message in messages(file.data):
            segments = [line.split("|") for line in re.split(r"[\r\n]+", message) if line]
            if len(segments[0]) < 12:
                continue
            filler = ""
            for fields in segments:
                if fields[0] == "PID":
                    mrns.add(fields[3].split("^")[0])
                elif fields[0] == "PV1":
                    visits.add(fields[19].split("^")[0])
                elif fields[0] == "OBR":
                    filler = fields[3]
                    reports.add(filler)
                elif fields[0] == "OBX":
                    observations.add((filler, fields[3]))
    counted = {"Patient": len(mrns), "Encounter": len(visits), "DiagnosticReport": len(reports)}
    assert day().expected.store["northside"] == counted | {"Observation": len(observations)}


def test_the_laboratory_tells_of_as_many_results_as_expected():
    broken = day().expected.broken[1]
    latest = {file.name: file for file in day().eastlab if file.name.startswith("results/")}
    found = [row for file in latest.values() for row in rows(file.data) if not row["accession"].startswith("X")]
    assert len({(row["accession"], row["loinc"]) for row in found}) == day().expected.store["eastlab"]["Observation"]
    assert day().expected.retracted not in {(row["accession"], row["loinc"]) for row in found}
    assert broken.finding == "collected_at"


def test_each_broken_record_stands_where_it_is_said_to_stand_and_carries_the_marker():
    message, row, resource = day().expected.broken
    text = next(file.data for file in day().northside if file.name == message.delivery)
    found = messages(text)[message.ordinal - 1]
    assert found.startswith("MSH|^~\r")
    assert MARKER_NAME in found
    lines = next(file.data for file in day().eastlab if file.name == row.delivery).decode().split("\n")
    broken = lines[int(row.location.split()[1]) - 1]
    assert "-02-30" in broken
    assert MARKER_NAME in broken
    found = [one for one in day().county if f"{one['resourceType']}/{one['id']}" == resource.location]
    assert len(found) == 1
    assert "status" not in found[0]
    assert MARKER_NAME in str(found[0])


def test_all_resources_of_the_registry_are_valid_and_refer_to_each_other_except_the_broken_one():
    broken = day().expected.broken[2].location.split("/")[1]
    known = {f"{one['resourceType']}/{one['id']}" for one in day().county}
    assert len(known) == len(day().county)
    for one in day().county:
        assert set(re.findall(r'"reference":"([^"]+)"', dumps(one).decode())) <= known
        model = get_fhir_model_class(one["resourceType"])
        if one["id"] == broken:
            with pytest.raises(ValueError, match="status"):
                model.model_validate(one)
        else:
            model.model_validate(one)


def test_the_marker_is_planted_in_every_format():
    hospital = b"".join(file.data for file in day().northside).decode("latin-1")
    assert re.search(rf"PID\|1\|[^\r\n]*\|{MARKER_NAME}\^[^\r\n]*\|{MARKER_NUMBER}[\r\n|]", hospital)
    for name in ("results", "roster"):
        laboratory = b"".join(file.data for file in day().eastlab if file.name.startswith(name)).decode()
        assert MARKER_NAME in laboratory
        assert MARKER_NUMBER in laboratory
    patients = [one for one in day().county if one["resourceType"] == "Patient"]
    assert sum(MARKER_NAME in str(one) and MARKER_NUMBER in str(one) for one in patients) == 1


def test_one_record_number_belongs_to_two_people():
    twin = day().expected.twin_mrn
    pid = next(m for f in day().northside for m in messages(f.data) if f"PID|1||{twin}^^^NORTHSIDE^MR" in m)
    name = re.search(r"PID\|1\|\|[^|]*\|\|([^|]*)\|", pid)[1].split("^")[:2]
    roster = day().eastlab[-1].data
    other = next(row for row in rows(roster, ";") if row["patient_id"] == twin)
    assert [other["last_name"], other["first_name"]] != name


def test_an_update_is_dropped_before_the_admission_that_it_follows():
    early = day().expected.early_update
    about = [
        f
        for f in sorted(day().northside, key=lambda f: f.moment)
        if f"{early.mrn}^^^NORTHSIDE" in f.data.decode("latin-1")
    ]
    assert [re.search(rb"\|ADT\^(A\d\d)", file.data)[1] for file in about] == [b"A08", b"A01"]
    assert about[0].moment < about[1].moment
    times = [re.search(rb"EVN\|A0\d\|(\d+)", file.data)[1] for file in about]
    assert times[0] > times[1]
    assert early.family in about[0].data.decode()
    assert f"{early.family_before}^" in about[1].data.decode()


def test_a_growing_file_is_seen_in_parts_and_then_whole():
    slow = next(file for file in day().northside if file.growing)
    seen = [file.data for drop in moments(day().northside) for file in drop if file.name == slow.name]
    assert seen == [slow.data[: slow.growing[0]], slow.data[: slow.growing[1]], slow.data]
    assert len({len(data) for data in seen}) == 3


def test_a_file_comes_again_under_its_own_and_another_name_and_one_comes_corrected():
    again = [file for file in day().northside if file.kind == "duplicate"]
    first = next(file for file in day().northside if file.name == again[0].name)
    assert {file.data for file in again} == {first.data}
    assert len({file.name for file in again}) == 2
    correction = next(file for file in day().eastlab if file.kind == "correction")
    before = next(file for file in day().eastlab if file.name == correction.name)
    assert len(rows(before.data)) == len(rows(correction.data)) + 1
    changed = {tuple(row.values()) for row in rows(correction.data)} - {
        tuple(row.values()) for row in rows(before.data)
    }
    assert len(changed) == 1


@pytest.mark.parametrize("of", [DAY, CLOCK_BACK, CLOCK_ON])
def test_all_times_of_events_are_on_the_day_and_the_hour_that_comes_twice_has_its_offset(of):
    times = [
        match
        for file in day(of).northside
        for message in messages(file.data)
        for match in re.findall(r"(?:EVN\|A\d\d|LAB\|)?\|(\d{14})([+-]\d{4})?(?=[\r\n|])", message)
    ]
    assert times
    for stamp, offset in times:
        when = datetime.strptime(stamp, "%Y%m%d%H%M%S")
        assert when.date() == of
        if of == CLOCK_BACK and when.hour == 1:
            assert offset
        if of == CLOCK_ON:
            assert when.hour != 2
    assert any(not offset for _, offset in times)


def test_dropping_a_file_again_always_changes_its_time_of_change(tmp_path):
    drop_sftp(tmp_path, day().northside[:1])
    place = tmp_path / "outbound" / day().northside[0].name
    first = place.stat().st_mtime
    drop_sftp(tmp_path, day().northside[:1])
    assert place.stat().st_mtime >= first + 1
    assert place.read_bytes() == day().northside[0].data


def test_a_bucket_holds_the_laboratorys_files_under_their_names():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
        )
        drop_s3(client, "eastlab", day().eastlab[:2])
        drop_s3(client, "eastlab", day().eastlab[:2])
        listed = [found["Key"] for found in client.list_objects_v2(Bucket="eastlab")["Contents"]]
        assert listed == [file.name for file in day().eastlab[:2]]
        body = client.get_object(Bucket="eastlab", Key=listed[0])["Body"].read()
        client.close()
    finally:
        server.stop()
    assert body == day().eastlab[0].data


def test_large_deliveries_have_the_asked_size_and_no_control_id_twice():
    stream = io.BytesIO()
    written = big_hl7(stream, 1_000)
    assert written == len(stream.getvalue())
    found = messages(stream.getvalue())
    assert len({message.split("|")[9] for message in found}) == 1_000
    stream = io.BytesIO()
    number = big_ndjson(stream, 200_000)
    lines = stream.getvalue().splitlines()
    assert len(stream.getvalue()) >= 200_000
    assert len({loads(line)["id"] for line in lines}) == len(lines) == number
