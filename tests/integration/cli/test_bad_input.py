"""Bad input: the exit code, and the one line that says what, where and what to do."""

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

GOOD = """source: {kind: directory, connection: drop}
format: fhir-ndjson
schedule: {every: 5m}
"""
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
KEY = "a:" + "A" * 43 + "="


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "mergee: patch\n", "some.feed.yaml:4: `mergee` is not a key here (did you mean merge?)"),
        (GOOD + "merge: pach\n", "some.feed.yaml:4: `merge`: Input should be 'patch' or 'replace'"),
        (GOOD + "\n\nformt: csv\n", "some.feed.yaml:6: `formt` is not a key here (did you mean format?)"),
        (GOOD + "quarantine: {ownr: lab}\n", "some.feed.yaml:4: `ownr` is not a key here (did you mean owner?)"),
        (
            "source:\n  kind: directory\n  connection: drop\n  ready: {stable_pols: 2}\nformat: fhir-ndjson\n",
            "some.feed.yaml:4: `stable_pols` is not a key here (did you mean stable_polls?)",
        ),
        (
            "source: {kind: sfpt, connection: drop}\nformat: fhir-ndjson\n",
            "some.feed.yaml:1: sfpt is not among the sources (did you mean sftp?)",
        ),
        (
            "format: fhir-ndjsn\nsource: {kind: directory, connection: drop}\n",
            "some.feed.yaml:1: `format`: fhir-ndjsn is not a format (did you mean fhir-ndjson?)",
        ),
        (GOOD.replace("5m", "5 minutes"), "some.feed.yaml:3: `schedule`: a duration is a number and one of s, m, h, d"),
        (GOOD + "timezone: Amerika/New_York\n", "some.feed.yaml:4: `timezone`: Amerika/New_York is not an IANA"),
        (GOOD.replace("fhir-ndjson", "hl7v2"), "some.feed.yaml:1: `timezone:` is missing: hl7v2 may carry times"),
        (
            "source: {kind: directory, connection: drop}\nformat: csv\ntimezone: UTC\nmapping: eastlab-reslts\n",
            "eastlab-reslts.yaml (did you mean eastlab-results?)",
        ),
        (GOOD + "route: [{to: [warehouse, eehr]}]\n", "destination eehr: there is no such file"),
        (GOOD + "route: [{to: [warehouse], drop: why}]\n", "some.feed.yaml:4: `route.0`: a rule says either"),
        (GOOD + "route: [{when: MSH-9 like A, to: [warehouse]}]\n", "`MSH-9 like A` is not a condition"),
        (GOOD + "checks: hospitall\n", "there is no hospitall.yaml (did you mean hospital?)"),
        (GOOD + "name: other\n", "some.feed.yaml:4: `name` follows from the file's name"),
        (GOOD + "format: csv\n", "some.feed.yaml:4: the key format stands here a second time"),
        (GOOD + "5: x\n", "some.feed.yaml:4: `5` is not a key here"),
        (GOOD + "? [a]\n: x\n", "some.feed.yaml:4: a key is one word"),
        (GOOD + "schedule\n", "some.feed.yaml:"),
        (GOOD + "expect: {by: '6:00'}\n", "some.feed.yaml:4: `expect.by`"),
        ("", "some.feed.yaml:1: a mapping of keys to values is needed"),
        ("- a\n", "some.feed.yaml:1: a mapping of keys to values is needed"),
        ("source:\nformat:\n", "some.feed.yaml:1: `source:` needs a `kind` (one of directory, "),
        ("format: csv\ntimezone: UTC\n", "some.feed.yaml:1: `source:` needs a `kind`"),
    ],
)
def test_a_mistake_in_a_feed_file_is_told_with_file_line_and_nearest_word(
    sluice: Any, feed: Callable[[str], str], text: str, said: str
) -> None:
    answer = sluice("feed", "check", feed(text))
    assert answer.code == 1
    assert said in answer.out
    assert re.match(r"some\.feed\.yaml(:\d+)?: ", answer.out)
    assert answer.err == ""


def test_every_mistake_of_a_file_is_told_in_the_order_of_its_lines(sluice: Any, feed: Callable[[str], str]) -> None:
    text = "snapshot: ful\nsource: {kind: directory, conection: drop}\nformat: hl7\nmergee: patch\n"
    lines = sluice("feed", "check", feed(text)).out.strip().split("\n")
    assert [line.split(":")[1] for line in lines] == ["1", "2", "3", "4"]


def test_what_a_feed_file_may_say_is_good(sluice: Any, feed: Callable[[str], str]) -> None:
    text = GOOD + 'timezone: UTC\nexpect: {by: "06:00", on: weekdays, records: [100, 50000]}\n'
    text += "quarantine: {hold_above_percent: 5}\n"
    answer = sluice("feed", "check", feed(text))
    assert (answer.code, answer.out.count(": good")) == (0, 1)


def test_a_mistake_in_a_feed_stops_its_run_with_exit_code_2(sluice: Any, feed: Callable[[str], str]) -> None:
    answer = sluice("run", feed(GOOD + "mergee: patch\n"))
    assert answer.code == 2
    assert answer.line == "some.feed.yaml:4: `mergee` is not a key here (did you mean merge?)"


@pytest.mark.parametrize("what", ["folder", "missing", "bytes", "name"])
def test_what_is_no_feed_file_is_told_in_one_line(sluice: Any, tmp_path: Path, what: str) -> None:
    path = tmp_path / ("noname.yaml" if what == "name" else "some.feed.yaml")
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        path.write_bytes(b"\xff\xfe\x00" if what == "bytes" else GOOD.encode())
    answer = sluice("run", str(path))
    assert answer.code == 2
    assert {
        "folder": "some.feed.yaml is a folder; a feed is one YAML file",
        "missing": "some.feed.yaml: it cannot be read (No such file or directory)",
        "bytes": "some.feed.yaml:1: not YAML",
        "name": "noname.yaml: a feed file is named <partner>.<feed>.yaml",
    }[what] in answer.line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_feed_file_that_may_not_be_read_is_told_in_one_line(sluice: Any, feed: Callable[[str], str]) -> None:
    path = feed(GOOD)
    Path(path).chmod(0)
    assert "it cannot be read (Permission denied)" in sluice("run", path).line


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run", "northside.hl8"], "feed northside.hl8: there is no such file (did you mean northside.hl7?)"),
        (["load", "--to", "eehr", "x.ndjson"], "destination eehr: there is no such file"),
        (["staus"], "No such command 'staus'. Did you mean 'status'?"),
        (["feed", "chek"], "No such command 'chek'"),
        (["status", "--jsn"], "No such option: --jsn"),
        (["run"], "Missing argument 'feed'"),
        (["status"], "the embedded stack does not run; start it with `sluice up`"),
        (["run", "northside.hl7"], "no Prefect server: run `sluice up`, or set PREFECT_API_URL"),
        (["deploy"], "no Prefect server: run `sluice up`, or set PREFECT_API_URL"),
        (["convert", "/nothing/here"], "/nothing/here: No such file or directory; give the path of a file"),
        (["convert", "--format", "hl7", "/dev/null"], "hl7 is not among the formats (did you mean hl7v2?)"),
        (["convert", "--format", "csv", "--mapping", "eastlab", "/dev/null"], "eastlab.yaml (did you mean eastlab"),
        (["convert", "--format", "hl7v2", "--timezone", "Mars/City", "/dev/null"], "no time zone 'Mars/City'"),
        (["convert"], "which file? give a path, or - for standard input"),
        (["bench", "nosuch"], "bench nosuch: there is no such benchmark"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(sluice: Any, command: list[str], said: str) -> None:
    answer = sluice(*command)
    assert answer.code == 2
    assert said in answer.line
    assert answer.out == ""


@pytest.mark.parametrize("command", [["quarantine", "list"], ["lineage", "1:1"], ["quarantine", "show", "1:1"]])
def test_no_postgres_and_no_landing_key_are_a_line_each(sluice: Any, command: list[str]) -> None:
    answer = sluice(*command)
    assert answer.code == 2
    assert answer.err.split("\n") == [
        "sluice: no Postgres: run `sluice up`, or set SLUICE_WAREHOUSE_URL to a Postgres 14 or later",
        "sluice: no landing key: run `sluice up`, or set SLUICE_LANDING_KEY to id:key with 32 random bytes in base64",
        "",
    ]


def test_no_landing_key_is_told(sluice: Any) -> None:
    answer = sluice("quarantine", "list", SLUICE_WAREHOUSE_URL=NOWHERE)
    assert answer.code == 2
    assert answer.line.startswith("no landing key: run `sluice up`, or set SLUICE_LANDING_KEY")


@pytest.mark.parametrize("key", ["abc", "a:", "a:YWJj", "a:%%%", f"{KEY},b:YWJj", ":" + KEY[2:], KEY + "AAAA"])
def test_a_landing_key_of_another_size_is_told_without_the_key(sluice: Any, key: str) -> None:
    answer = sluice("quarantine", "list", SLUICE_WAREHOUSE_URL=NOWHERE, SLUICE_LANDING_KEY=key)
    assert answer.code == 2
    assert answer.line == "SLUICE_LANDING_KEY: each part is id:key with 32 bytes in base64, separated by commas"


@pytest.mark.parametrize("url", [NOWHERE, "nonsense", "postgresql://x:secret@nohost.invalid/y"])
def test_a_postgres_that_does_not_answer_is_told_without_its_password(sluice: Any, url: str) -> None:
    answer = sluice("quarantine", "list", SLUICE_WAREHOUSE_URL=url, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 1
    assert answer.line == "Postgres does not answer; see `sluice status`, nothing was committed"


@pytest.mark.parametrize("value", ["0", "50001", "-1", "many", "1.5", ""])
def test_a_number_of_the_settings_out_of_range_is_told(sluice: Any, value: str) -> None:
    env = {"SLUICE_WAREHOUSE_URL": NOWHERE, "SLUICE_LANDING_KEY": KEY, "SLUICE_BATCH_RECORDS": value}
    answer = sluice("quarantine", "list", **env)
    assert answer.code == 2
    assert answer.line == "SLUICE_BATCH_RECORDS: a whole number from 1 to 50000 is needed"


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/api", "nonsense", "http://"])
def test_a_prefect_that_does_not_answer_is_told(sluice: Any, url: str) -> None:
    answer = sluice("run", "northside.hl7", PREFECT_API_URL=url)
    assert answer.code == 1
    assert answer.line == "Prefect's server does not answer: see `sluice status`, or mend PREFECT_API_URL"


def test_a_folder_of_feeds_that_is_not_there_is_told(sluice: Any) -> None:
    for command in (["feed", "check"], ["run", "a.b"]):
        answer = sluice(*command, SLUICE_FEEDS="/nothing/here")
        assert answer.code == 2
        assert answer.line == "SLUICE_FEEDS: /nothing/here is no folder"


@pytest.mark.parametrize("what", ["a file", "below a file", "below /proc"])
def test_a_state_folder_that_cannot_be_written_is_told(sluice: Any, tmp_path: Path, what: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    home = {"a file": str(file), "below a file": str(file / "home"), "below /proc": "/proc/nothing/here"}[what]
    answer = sluice("up", SLUICE_HOME=home)
    assert answer.code == 2
    assert answer.line.startswith(f"{home}: it cannot be written (errno ")
    assert answer.line.endswith("set SLUICE_HOME")


def test_a_folder_in_which_postgres_cannot_make_its_cluster_is_told(sluice: Any, home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    (home / "postgres" / "somebody-elses.txt").write_text("x")
    answer = sluice("up")
    assert answer.code == 2
    assert answer.line.startswith(f"{home / 'postgres'}: Postgres cannot make its cluster there (")
    assert answer.line.endswith("set SLUICE_HOME to another folder")


@pytest.mark.parametrize("port", ["abc", "99999", "-1", "1.5"])
def test_a_port_that_is_no_number_is_told(sluice: Any, port: str) -> None:
    answer = sluice("up", SLUICE_PORT_POSTGRES=port)
    assert answer.code == 2
    assert answer.line == "SLUICE_PORT_POSTGRES: a port's number, at most 65535, is needed"


@pytest.mark.parametrize("record", ["abc", "1", "1:", ":1", "1:x", "-1:2"])
def test_what_is_no_record_is_told(sluice: Any, warehouse_url: str, record: str) -> None:
    answer = sluice("quarantine", "show", "--", record, SLUICE_WAREHOUSE_URL=warehouse_url, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 2
    assert answer.line == f"{record} is not a record's id, as 12:345 is (delivery 12, record 345)"


@pytest.mark.parametrize(
    "thing", ["abc", "1", "1:1", "99999999999999999999:1", "Patient/x", "00000000-0000-0000-0000-000000000000", "'; --"]
)
def test_what_the_ledger_does_not_know_is_told(sluice: Any, warehouse_url: str, thing: str) -> None:
    answer = sluice("lineage", thing, SLUICE_WAREHOUSE_URL=warehouse_url, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 2
    assert answer.line.startswith(f"{thing} is not known")


def test_a_record_that_is_not_in_quarantine_is_told(sluice: Any, warehouse_url: str) -> None:
    answer = sluice("quarantine", "show", "1:1", SLUICE_WAREHOUSE_URL=warehouse_url, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 2
    assert answer.line == "record 1:1 is not in quarantine; see `sluice quarantine list`"


def test_a_warehouse_without_its_tables_is_told(sluice: Any, postgres_url: str) -> None:
    answer = sluice("quarantine", "list", SLUICE_WAREHOUSE_URL=postgres_url, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 1
    assert "Postgres refused with SQLSTATE 42P01" in answer.line


def test_doctor_tells_of_no_postgres_as_a_row(sluice: Any) -> None:
    answer = sluice("doctor", "--json", SLUICE_WAREHOUSE_URL=NOWHERE, SLUICE_LANDING_KEY=KEY)
    assert answer.code == 1
    assert json.loads(answer.out) == [
        {
            "check": "settings and Postgres",
            "good": False,
            "detail": "Postgres does not answer; see `sluice status`, nothing was committed",
        }
    ]


def test_what_nobody_foresaw_is_one_line_without_a_word_of_it(sluice: Any, home: Path) -> None:
    home.mkdir()
    (home / "environment.json").write_text("{ no json: Zzyzx")
    answer = sluice("quarantine", "list")
    assert answer.code in {1, 2}
    assert "Zzyzx" not in answer.line


MESSAGE = "MSH|^~\\&|A|B|C|D|20260309||ADT^A01|{0}|P|2.5\rPID|1||{0}^^^B^MR||Doe^Jane\rPV1|1|I\r"


@pytest.mark.parametrize(
    ("arguments", "record", "count"),
    [
        (["convert", "--timezone", "UTC", "-"], MESSAGE, 500),
        (["views", "run", "patient", "-"], '{{"resourceType": "Patient", "id": "p{0}"}}\n', 5000),
    ],
)
def test_a_reader_who_has_seen_enough_is_no_error(home: Path, arguments: list[str], record: str, count: int) -> None:
    import sys

    from tasks.settings import PROJECT

    code = "from deployments.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=PROJECT,
        env={**os.environ, "SLUICE_HOME": str(home), "PYTHONPATH": str(PROJECT)},
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        feeder = threading.Thread(
            target=_feed, args=(process.stdin, "".join(record.format(n) for n in range(count)).encode())
        )
        feeder.start()
        process.stdout.read(100)
        process.stdout.close()
        err = process.stderr.read().decode()
        feeder.join()
    assert err == ""
    assert process.returncode in {1, 141}


def _feed(pipe: Any, data: bytes) -> None:
    try:
        pipe.write(data)
        pipe.close()
    except BrokenPipeError:
        pass


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that gives every question the same status."""

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Same)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_is_not_prefect_is_told(sluice: Any) -> None:
    with answering(404) as url:
        assert "Prefect's server does not answer" in sluice("run", "northside.hl7", PREFECT_API_URL=url).line


def taken(port: int) -> socket.socket:
    held = socket.socket()
    held.bind(("127.0.0.1", port))
    held.listen()
    return held


def test_a_free_port_is_found_behind_those_that_are_taken() -> None:
    from infra.dev.process import free_port

    with taken(0) as first:
        port = first.getsockname()[1]
        assert port < free_port(port) < port + 200 or free_port(port) < port
    assert free_port(65535) <= 65535
