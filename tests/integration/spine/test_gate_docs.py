"""Data Docs of what the gate said: every batch and table has its page, and no value of a record is in any file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tasks.errors import ConfigError
from tasks.feed import load
from tasks.gate.docs import write
from tasks.gate.gate import CHECKS, read_checks
from tasks.ledger.db import connect

# great-expectations imports what Python deprecates
pytestmark = [pytest.mark.usefixtures("sound"), pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MARKER = "Zyxmarker"
"""A patient's family name, on which a check stumbles: great-expectations shows such values unless it is told not to."""
ASKING = f"""
patient:
  - {{type: expect_column_values_to_be_in_set, kwargs: {{column: family, value_set: [Allowedname]}}}}
  - {{type: expect_column_values_to_not_be_null, kwargs: {{column: {MARKER.lower()}_column}}, severity: warning}}
encounter:
  - {{type: expect_column_values_to_not_be_null, kwargs: {{column: class_code, mostly: 0.99}}, severity: critical}}
"""


@pytest.fixture
def folder(site, adt, tmp_path, monkeypatch):
    """A site whose feed had one batch held; the folder for its pages."""
    checks = tmp_path / "checks"
    checks.mkdir()
    (checks / "asking.yaml").write_text(ASKING)
    monkeypatch.setattr("tasks.gate.gate.CHECKS", checks)
    site.configure("checks: asking\n" + (site.feeds / f"{site.feed}.yaml").read_text())
    site.write("day.hl7", adt(mrn="77123001", family=MARKER), adt(mrn="77123002", family=MARKER))
    assert site.run()["in_flight"] == 2
    return tmp_path / "pages"


def written(site, folder, last=20):
    with connect(site.url) as connection:
        return write(connection, load(site.feed), folder, last)


def test_every_table_has_a_page_that_says_what_held_and_no_file_has_a_value(site, folder):
    pages = {page["table"]: page for page in written(site, folder)}
    assert {table: (page["held"], page["failed"]) for table, page in pages.items()} == {
        "encounter": (1, 0),
        "patient": (0, 2),
        "records": (1, 0),
    }
    texts = {table: Path(unquote(urlparse(page["page"]).path)).read_text() for table, page in pages.items()}
    assert "Allowedname" in texts["patient"]
    assert "class_code" in texts["encounter"]
    assert "99" in texts["encounter"]
    assert "quarantined share" in texts["records"]
    index = (folder / "index.html").read_text()
    for page in pages.values():
        assert (folder / unquote(urlparse(page["page"]).path)).is_file()
        assert unquote(urlparse(page["page"]).path).removeprefix(f"{folder}/") in unquote(index)
    for file in folder.rglob("*.html"):
        # a browser without a way out loads nothing and has nothing to wait for
        assert not re.search(r"<script|<(?:link|img|iframe)[^>]+//", file.read_text(), re.IGNORECASE), file
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    assert len(files) > len(pages)
    for value in (MARKER, "77123001", "77123002", "19800101", "1980-01-01"):
        assert not [file for file in files if value.encode() in file]


def test_pages_say_what_was_asked_then_after_the_checks_file_changed(site, folder, monkeypatch):
    monkeypatch.setattr("tasks.gate.gate.CHECKS", CHECKS)
    written(site, folder)
    assert [file for file in folder.rglob("*.html") if "Allowedname" in file.read_text()]


def test_a_check_that_the_library_does_not_know_any_more_is_named_all_the_same(site, folder):
    site.rows(
        "update ledger.batch set verdict = jsonb_set(verdict, '{results,1}', (verdict->'results'->1) - 'asked' "
        '|| \'{"expectation": "expect_what_is_gone", "place": "family"}\') returning id'
    )
    written(site, folder)
    assert [file for file in folder.rglob("*.html") if "family expect_what_is_gone" in file.read_text()]


def test_a_folder_that_holds_something_is_left_alone_and_a_feed_without_batches_is_told(site, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        written(site, tmp_path)
    with pytest.raises(ConfigError, match="looked at none of its batches"):
        written(site, tmp_path / "pages")
    assert not (tmp_path / "pages").exists()


def test_a_check_whose_argument_cannot_be_kept_is_refused_with_its_line(tmp_path, monkeypatch):
    (tmp_path / "dated.yaml").write_text(
        "observation:\n- {type: expect_column_values_to_be_between, kwargs: {max_value: .inf}}\n"
    )
    monkeypatch.setattr("tasks.gate.gate.CHECKS", tmp_path)
    with pytest.raises(ConfigError, match=r"dated.yaml:2.*no infinity"):
        read_checks("dated")
