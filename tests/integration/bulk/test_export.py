"""`sluice export` as a process against a server that misbehaves, on real sockets."""

from __future__ import annotations

import json
import threading
from email.utils import formatdate
from itertools import count
from pathlib import Path
from time import time


def finished(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (out, err)
    return json.loads(out) if out.startswith("{") else out + err


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def patient(n: int, **more) -> dict:
    return {"resourceType": "Patient", "id": f"p{n}", "active": True} | more


def outcome(severity: str) -> dict:
    issue = {"severity": severity, "code": "processing", "diagnostics": "the value 1953-02-01 is secret"}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def test_an_export_writes_a_file_for_each_of_the_manifest_and_deletes_the_job(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1), patient(2)], count=2)
    server.put("Patient.b", [patient(3)], count=1)
    server.put("Condition.a", [{"resourceType": "Condition", "id": "c"}])
    server.put("Bundle.x", [{"resourceType": "Bundle", "type": "transaction"}], kind="deleted")
    summary = finished(run_export(server.url, "--to", str(tmp_path / "out"), "--json"))
    assert summary["status"] == "complete"
    assert summary["resources"] == {"Patient": 3, "Condition": 1}
    assert ids(tmp_path / "out/Patient.000.ndjson") == ["p1", "p2"]
    assert ids(tmp_path / "out/Patient.001.ndjson") == ["p3"]
    assert (tmp_path / "out/Condition.000.ndjson").exists()
    assert (tmp_path / "out/deleted/Bundle.000.ndjson").exists()
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["transactionTime"] == server.transaction_time
    assert [item["url"] for item in manifest["output"]] == [
        "Patient.000.ndjson",
        "Patient.001.ndjson",
        "Condition.000.ndjson",
    ]
    assert server.jobs == {}


def test_the_parameters_reach_the_kick_off_and_prefer_is_async(server, run_export, tmp_path):
    arguments = ["--type", "Patient,Condition", "--since", "2024-01-31", "--group", "g1", "--elements", "id"]
    filters = ["--type-filter", "Condition?category=a,b"]
    finished(run_export(server.url, "--to", str(tmp_path / "out"), *arguments, *filters))
    (asked,) = server.asked("/Group/g1/$export")
    assert asked.query == {
        "_type": ["Patient,Condition"],
        "_since": ["2024-01-31T00:00:00Z"],
        "_elements": ["id"],
        "_typeFilter": ["Condition?category=a,b"],
    }
    assert asked.headers["prefer"] == "respond-async"


def test_a_kick_off_url_is_used_as_it_is_and_a_post_carries_parameters(server, run_export, tmp_path):
    finished(run_export(f"{server.url}/Patient/$export?_type=Patient", "--to", str(tmp_path / "out"), "--post"))
    (asked,) = server.asked("/Patient/$export", "POST")
    assert json.loads(asked.body)["parameter"] == [{"name": "_type", "valueString": "Patient"}]


def test_an_export_given_again_when_complete_asks_the_server_for_nothing(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    finished(run_export(server.url, "--to", str(tmp_path)))
    before = len(server.seen)
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"))["resources"] == {"Patient": 1}
    assert len(server.seen) == before


def test_other_parameters_in_the_same_folder_are_refused(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert "other parameters" in finished(run_export(server.url, "--to", str(tmp_path), "--type", "Patient"), 2)


def test_an_export_killed_in_a_file_goes_on_with_the_same_job_and_the_rest_of_the_file(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.big", [patient(n, text="x" * 1000) for n in range(1000)])
    server.chunk_delay = 0.05
    process = run_export(server.url, "--to", str(tmp_path))
    state = tmp_path / ".sluice-export/parts/Patient.001.ndjson.state"
    while not state.exists():
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert (tmp_path / "Patient.000.ndjson").exists()
    server.chunk_delay = 0
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert len(server.asked("/$export")) == 1
    assert len(server.asked("/files/job1/Patient.a")) == 1
    again = server.asked("/files/job1/Patient.big")
    assert len(again) == 2
    assert int(again[1].headers["range"].removeprefix("bytes=").rstrip("-")) > 64 * 1024
    assert (tmp_path / "Patient.001.ndjson").read_bytes() == server.files["Patient.big"].body


def test_an_export_killed_while_the_server_works_goes_on_with_the_same_status_url(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.script["/status/job1"] = [reply(202, {"Retry-After": "60"})]
    process = run_export(server.url, "--to", str(tmp_path))
    while not server.asked("/status/job1"):
        assert process.poll() is None
    process.kill()
    process.communicate()
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert len(server.asked("/$export")) == 1
    assert ids(tmp_path / "Patient.000.ndjson") == ["p1"]


def test_a_cut_connection_is_resumed_by_range_under_the_same_etag(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(n) for n in range(2000)])
    body = server.files["Patient.a"].body
    server.script["/files/job1/Patient.a"] = [reply(200, {"ETag": f'"{len(body)}"'}, body, cut_after=50_000)]
    finished(run_export(server.url, "--to", str(tmp_path)))
    second = server.asked("/files/job1/Patient.a")[1].headers
    assert (second["range"], second["if-range"]) == ("bytes=50000-", f'"{len(body)}"')
    assert (tmp_path / "Patient.000.ndjson").read_bytes() == body


def test_a_server_without_ranges_is_read_again_without_doubling_a_byte(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(n) for n in range(2000)])
    server.ranges = False
    body = server.files["Patient.a"].body
    server.script["/files/job1/Patient.a"] = [reply(200, {}, body, cut_after=50_001)]
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert (tmp_path / "Patient.000.ndjson").read_bytes() == body


def test_a_file_that_changed_under_a_resumed_download_is_fetched_from_the_start(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(n) for n in range(2000)])
    body = server.files["Patient.a"].body
    server.script["/files/job1/Patient.a"] = [reply(200, {"ETag": '"old"'}, b"x" * len(body), cut_after=50_001)]
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert (tmp_path / "Patient.000.ndjson").read_bytes() == body


def test_every_form_of_retry_after_is_waited_for_sensibly(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    past_ms, date = str(int(time() * 1000)), formatdate(time() + 1, usegmt=True)
    server.script["/status/job1"] = [
        reply(202, {"Retry-After": said, "X-Progress": "half"}) for said in ("0", "soon", date, past_ms, "-3")
    ]
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert len(server.asked("/status/job1")) == 6


def test_one_500_on_the_status_is_not_the_end(server, reply, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.script["/status/job1"] = [reply(500), reply(502, {}, b"<html>"), reply(429, {"Retry-After": "1"})]
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert ids(tmp_path / "Patient.000.ndjson") == ["p1"]


def test_a_busy_server_is_asked_again_and_one_that_names_the_running_job_is_taken_at_its_word(
    server, reply, run_export, tmp_path
):
    server.put("Patient.a", [patient(1)])
    server.jobs["earlier"] = "running"
    running = {"Content-Location": f"{server.url}/status/earlier"}
    server.script["/$export"] = [reply(429, {"Retry-After": "1"}), reply(503), reply(409, running)]
    finished(run_export(server.url, "--to", str(tmp_path)))
    assert len(server.asked("/$export")) == 3
    assert len(server.asked("/files/earlier/Patient.a")) == 1


def test_a_file_whose_time_is_up_leads_to_a_new_kick_off(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    server.gone.add("/files/job1/Patient.b")
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"))
    assert (summary["kick_offs"], summary["resources"]) == (2, {"Patient": 2})
    assert len(server.asked("/files/job2/Patient.a")) == 1


def test_signed_addresses_whose_time_is_up_are_asked_for_again_and_what_is_there_is_kept(server, run_export, tmp_path):
    for name in "abc":
        server.put(f"Patient.{name}", [patient(1)])
    server.signature = 1
    server.before_file = lambda name: setattr(server, "signature", 2) if name == "Patient.a" else None
    arguments = ("--to", str(tmp_path), "--parallel", "1", "--json")
    summary = finished(run_export(server.url, *arguments))
    assert (summary["kick_offs"], summary["resources"]) == (1, {"Patient": 3})
    assert len(server.asked("/files/job1/Patient.a")) == 1


def test_addresses_that_are_always_out_of_time_lead_to_new_kick_offs_and_come_to_an_end(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.signature, numbers = 0, count(1)
    server.before_status = lambda: setattr(server, "signature", -next(numbers))
    server.gone = {f"/files/job{n}/Patient.a" for n in range(1, 9)}
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"), 1)["kick_offs"] == 4


def test_a_file_packed_in_a_way_that_was_not_asked_for_is_named_and_not_taken_for_broken_lines(
    server, reply, run_export, tmp_path
):
    server.put("Patient.a", [patient(1)])
    server.script["/files/job1/Patient.a"] = [reply(200, {"Content-Encoding": "br"}, b"\x8b\x00\x80x\x03")]
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"), 1)
    assert "Content-Encoding" in summary["missing"][0]["reason"]
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"))["resources"] == {"Patient": 1}


def test_a_job_that_the_server_forgot_leads_to_a_new_kick_off(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.gone.add("/status/job1")
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"))["kick_offs"] == 2


def test_a_file_that_never_comes_is_named_and_the_export_is_completed_by_running_it_again(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    server.gone |= {f"/files/job{n}/Patient.b" for n in (1, 2, 3, 4)}
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"), 1)
    assert summary["status"] == "partial"
    assert [item["file"] for item in summary["missing"]] == ["Patient.001.ndjson"]
    assert ids(tmp_path / "Patient.000.ndjson") == ["p1"]
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"))
    assert (summary["status"], summary["resources"]) == ("complete", {"Patient": 2})


def test_errors_beside_the_output_make_it_partial_and_their_texts_stay_in_the_folder(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.put("OperationOutcome.e", [outcome("error")], kind="error")
    said = finished(run_export(server.url, "--to", str(tmp_path)), 1)
    assert "error:processing: 1 issues" in said
    assert "1953" not in said
    assert "1953" in (tmp_path / "error/OperationOutcome.000.ndjson").read_text()


def test_warnings_beside_the_output_do_not_make_it_partial(server, run_export, tmp_path):
    server.put("OperationOutcome.e", [outcome("warning")], kind="error")
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"))["issues"] == {"warning:processing": 1}


def test_blank_broken_and_unended_lines_leave_one_object_a_line_and_are_told_by_number(server, run_export, tmp_path):
    good = b'{"resourceType":"Patient","id":"a"}'
    body = b"\xef\xbb\xbf" + good + b'\r\n\n  \n{"resourceType": \n' + good.replace(b'"a"', b'"b"')
    server.put("Patient.a", body)
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"), 1)
    assert summary["broken"] == [{"file": "Patient.000.ndjson", "line": 4}]
    assert ids(tmp_path / "Patient.000.ndjson") == ["a", "b"]
    assert (tmp_path / "error/broken/Patient.000.ndjson").read_text() == '{"resourceType":\n'


def test_fewer_resources_than_the_manifest_counts_make_it_partial_and_duplicates_are_told(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)], count=2)
    server.put("Patient.b", [patient(2), patient(3), patient(2)], count=2)
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"), 1)
    assert summary["short"] == [{"file": "Patient.000.ndjson", "expected": 2, "resources": 1}]
    assert summary["notes"] == ["Patient.001.ndjson: 1 resources stand there more than once"]


def test_paged_manifests_are_followed_to_the_end(server, run_export, tmp_path):
    for n in range(5):
        server.put(f"Patient.{n}", [patient(n)])
    server.page_size = 2
    assert finished(run_export(server.url, "--to", str(tmp_path), "--json"))["files"] == 5


def test_many_tiny_files_come_in_through_429_and_502(server, reply, run_export, tmp_path):
    for n in range(300):
        server.put(f"Patient.{n}", [patient(n)])
    for n in range(0, 300, 10):
        server.script[f"/files/job1/Patient.{n}"] = [reply(429, {"Retry-After": "0"}) if n % 20 else reply(502)]
    summary = finished(run_export(server.url, "--to", str(tmp_path), "--json"))
    assert summary["resources"] == {"Patient": 300}
    assert len(list(tmp_path.glob("Patient.*.ndjson"))) == 300


def test_a_type_with_a_path_in_it_stays_inside_the_folder(server, run_export, tmp_path):
    server.put("Patient.a", [patient(1)], type="../../evil")
    finished(run_export(server.url, "--to", str(tmp_path / "in/out")))
    assert [path.name for path in (tmp_path / "in/out").glob("*.ndjson")] == ["Resource.000.ndjson"]
    assert not list(tmp_path.glob("*evil*"))


def test_two_exports_do_not_work_in_one_folder_at_once(server, reply, run_export, tmp_path):
    server.script["/status/job1"] = [reply(202, {"Retry-After": "60"})]
    first = run_export(server.url, "--to", str(tmp_path))
    while not server.asked("/status/job1"):
        assert first.poll() is None
    assert "at work" in finished(run_export(server.url, "--to", str(tmp_path)), 2)


def test_a_secured_export_signs_in_renews_its_token_in_time_and_never_reuses_an_assertion(
    server, smart_file, run_export, tmp_path
):
    server.token_seconds = 1.0
    for n in range(6):
        server.put(f"Patient.{n}", [patient(n)])
    server.before_file = lambda _: threading.Event().wait(0.4)
    arguments = ("--auth", str(smart_file), "--parallel", "1", "--json")
    summary = finished(run_export(server.url, "--to", str(tmp_path / "out"), *arguments))
    assert summary["resources"] == {"Patient": 6}
    assert len(server.assertions) > 1
    assert all(claims["iss"] == claims["sub"] == "c" for claims in server.assertions)


def test_a_token_that_the_server_revokes_in_the_middle_is_renewed(server, smart_file, run_export, tmp_path):
    server.put("Patient.a", [patient(1)])
    server.put("Patient.b", [patient(2)])
    server.before_file = lambda _: server.tokens.update({"token-1": 0.0})
    arguments = ("--auth", str(smart_file), "--parallel", "1", "--json")
    assert finished(run_export(server.url, "--to", str(tmp_path / "out"), *arguments))["resources"] == {"Patient": 2}


def test_a_redirect_to_another_host_does_not_carry_the_token(server, other_server, reply, smart_file, run_export):
    tmp_path = smart_file.parent
    server.put("Patient.a", [patient(1)])
    other_server.put("Patient.a", [patient(1)])
    away = f"{other_server.url}/files/x/Patient.a"
    server.script["/files/job1/Patient.a"] = [reply(307, {"Location": away})]
    finished(run_export(server.url, "--to", str(tmp_path / "out"), "--auth", str(smart_file)))
    assert "authorization" in server.asked("/files/job1/Patient.a")[0].headers
    assert "authorization" not in other_server.asked("/files/x/Patient.a")[0].headers
    assert ids(tmp_path / "out/Patient.000.ndjson") == ["p1"]


def test_no_token_goes_to_a_file_that_needs_none(server, other_server, smart_file, run_export, tmp_path):
    other_server.put("Patient.a", [patient(1)])
    server.put("Patient.a", [patient(1)], base=other_server.url)
    server.requires_token = False
    finished(run_export(server.url, "--to", str(tmp_path / "out"), "--auth", str(smart_file)))
    assert "authorization" not in other_server.asked("/files/job1/Patient.a")[0].headers


def test_a_client_that_the_token_endpoint_refuses_is_told_what_to_check(server, smart_file, run_export, tmp_path):
    held = json.loads(smart_file.read_text())
    held["private_key_jwk"]["kid"] = "another"
    smart_file.write_text(json.dumps(held))
    said = finished(run_export(server.url, "--to", str(tmp_path / "out"), "--auth", str(smart_file)), 2)
    assert "invalid_client" in said
    assert "Traceback" not in said


def test_a_kick_off_that_is_refused_names_the_issue_codes_and_none_of_the_text(server, reply, run_export, tmp_path):
    body = json.dumps(outcome("error")).encode()
    server.script["/$export"] = [reply(400, {}, body)]
    said = finished(run_export(f"{server.url}?secret=1953", "--to", str(tmp_path)), 1)
    assert "400 (processing)" in said
    assert "1953" not in said
