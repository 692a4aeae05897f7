"""`sluice partner check`: the receipt of a file that nobody has taken, in a process of its own."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FEED = """
source: {kind: directory, connection: drop, match: "*.hl7", ready: {stable_polls: 1}}
format: hl7v2
timezone: America/New_York
"""
GOOD = (
    "MSH|^~\\&|ADT|NORTH|SLUICE|HUB|20260309100000||ADT^A01^ADT_A01|C1|P|2.5.1\r"
    "EVN|A01|20260309100000\rPID|1||77001^^^NORTHSIDE^MR||Zzyzx^Ada||19800101|F\r"
    "PV1|1|I|W^1^1^NORTH|||||||||||||||||V1^^^NORTHSIDE^VN\r"
)
BROKEN = "MSH|^~\\&|garbage\r"


def check(tmp_path: Path, name: str, text: str | bytes, *options: str) -> subprocess.CompletedProcess[str]:
    feeds = tmp_path / "feeds"
    feeds.mkdir(exist_ok=True)
    (feeds / "northside.adt.yaml").write_text(FEED)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    env = {key: value for key, value in os.environ.items() if not key.startswith("SLUICE_")}
    env |= {"SLUICE_FEEDS": str(feeds), "SLUICE_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", "from deployments.cli.main import main; main()", "partner", "check"]
    command += [str(tmp_path / name), "--feed", "northside.adt", *options]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_a_good_file_is_accepted_without_a_warehouse(tmp_path: Path):
    done = check(tmp_path, "day.hl7", GOOD, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert (said["received"], said["accepted"], said["refused"], said["delivery"]) == (1, 1, 0, None)
    assert not (tmp_path / "home").exists(), "nothing is kept"


def test_what_would_be_refused_is_named_by_its_place_and_the_exit_code_is_1(tmp_path: Path):
    done = check(tmp_path, "day.hl7", GOOD + BROKEN + GOOD)
    assert done.returncode == 1
    assert "3 received: 1 accepted, 1 refused, 1 duplicate" in done.stdout
    assert "message 2: not-hl7v2 at MSH" in done.stdout
    assert not any(value in done.stdout + done.stderr for value in ("77001", "Zzyzx", "19800101"))


def test_the_acknowledgements_can_be_seen_too(tmp_path: Path):
    done = check(tmp_path, "day.hl7", GOOD + BROKEN, "--ack")
    lines = [line.split("|")[:3] for line in done.stdout.splitlines()]
    assert [line[1] for line in lines if line[0] == "MSA"] == ["AA", "AR"]


def test_a_name_that_the_feed_does_not_look_at_is_said(tmp_path: Path):
    done = check(tmp_path, "day.txt", GOOD)
    assert done.returncode == 1
    assert "does not look at files of this name" in done.stderr


@pytest.mark.parametrize("text", ["", "no message at all"])
def test_what_holds_no_message_is_answered_in_one_line_or_a_receipt(tmp_path: Path, text: str):
    done = check(tmp_path, "day.hl7", text)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if text else 0)


def test_a_file_that_is_not_there_is_misuse(tmp_path: Path):
    done = check(tmp_path, "day.hl7", GOOD)
    (tmp_path / "day.hl7").unlink()
    done = subprocess.run(
        [*done.args],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"SLUICE_FEEDS": str(tmp_path / "feeds")},
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_what_is_packed_is_opened_as_at_the_landing(tmp_path: Path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.hl7", GOOD)
        archive.writestr("b.hl7", GOOD + BROKEN)
    done = check(tmp_path, "day.hl7", packed.getvalue(), "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [(one["name"], one["accepted"], one["refused"]) for one in said] == [
        ("day.hl7!day.hl7/a.hl7", 1, 0),
        ("day.hl7!day.hl7/b.hl7", 1, 1),
    ]
    answered = check(tmp_path, "day.hl7", packed.getvalue(), "--ack")
    assert answered.stdout.count("MSA|AA") == 2
    assert answered.stdout.count("MSA|AR") == 1


def test_what_cannot_be_opened_is_refused_as_a_whole(tmp_path: Path):
    done = check(tmp_path, "day.hl7", gzip.compress(GOOD.encode())[:-9], "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["state"], said["received"], said["refused"]) == ("refused", 1, 1)
    assert said["refused_records"][0]["findings"]
    assert check(tmp_path, "day.hl7", gzip.compress(GOOD.encode())[:-9], "--ack").stdout == ""
