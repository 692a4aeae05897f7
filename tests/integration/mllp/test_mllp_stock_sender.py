"""A stock sender, `mllp_send` of the `hl7` package, is acknowledged as HL7 v2.5.1, chapter 2.9 says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hl7
import pytest
from mllp_site import Site, message


def sent(port: int, folder: Path, *messages: bytes) -> list[hl7.Message]:
    """Send messages as a file; return the acknowledgements as the package itself reads them."""
    (folder / "day.hl7").write_bytes(b"".join(b"\x0b" + one + b"\x1c\r" for one in messages))
    command = [sys.executable, "-m", "hl7.client", "--port", str(port), "--file", str(folder / "day.hl7"), "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    answers = done.stdout.decode().replace("\n", "\r").split("MSH|")[1:]
    return [hl7.parse("MSH|" + answer.strip("\r\x0b\x1c") + "\r") for answer in answers]


def test_in_original_mode_each_message_is_accepted_under_its_control_id(site: Site, tmp_path: Path) -> None:
    answers = sent(site.listen().port, tmp_path, message("C1"), message("C2", mrn="1002"))
    assert [str(answer["MSA"][0][1]) for answer in answers] == ["AA", "AA"]
    assert [str(answer["MSA"][0][2]) for answer in answers] == ["C1", "C2"]
    assert [str(answer["MSH"][0][9][0][0]) for answer in answers] == ["ACK", "ACK"]
    assert site.take()["published"] == 2


@pytest.mark.parametrize(
    ("accept", "application", "code"), [("AL", "NE", "CA"), ("NE", "AL", "AA"), ("SU", "NE", "CA")]
)
def test_in_enhanced_mode_it_hears_what_it_asked_for(
    site: Site, tmp_path: Path, accept: str, application: str, code: str
) -> None:
    [answer] = sent(site.listen().port, tmp_path, message("C1", msh15=accept, msh16=application))
    assert (str(answer["MSA"][0][1]), str(answer["MSA"][0][2])) == (code, "C1")


def test_what_is_refused_comes_with_a_code_and_a_place(site: Site, tmp_path: Path) -> None:
    [answer] = sent(site.listen().port, tmp_path, message("C1", msh12="9.9"))
    assert str(answer["MSA"][0][1]) in {"AE", "AR"}
    assert str(answer["ERR"][0][2]) == "MSH^1^12"
