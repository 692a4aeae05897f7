"""Schemathesis against the intake's own OpenAPI page, where it is installed (`pipx install schemathesis`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCHEMATHESIS = shutil.which("schemathesis")
FEED = "northside.fhir"
CONFIGURATION = f"""
[parameters]
"path.feed" = "{FEED}"
"path.kind" = "Patient"

# that type and id of a resource are those of the URL, a schema cannot say
[[operations]]
include-path = "/{{feed}}/fhir/{{kind}}"
checks.positive_data_acceptance.enabled = false

[[operations]]
include-path = "/{{feed}}/fhir/{{kind}}/{{ident}}"
checks.positive_data_acceptance.enabled = false
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SCHEMATHESIS is None, reason="schemathesis is not installed (pipx install schemathesis)"),
]


def test_schemathesis_finds_nothing(site, tmp_path: Path) -> None:
    site.configure(FEED, more="open: true, per_minute: 1000000")
    base = str(site.listen(FEED).base_url).rstrip("/")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    command = [str(SCHEMATHESIS), "--config-file", str(tmp_path / "schemathesis.toml"), "run", f"{base}/openapi.json"]
    options = ["--max-examples", "25", "--seed", "1", "--no-color", "--wait-for-schema", "30"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Operations:  " in done.stdout
