"""The marker name and number of the sample data stand in landing (encrypted), in the store, and nowhere else."""

import base64
import gzip
import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.dev.partners import MARKER_NAME, MARKER_NUMBER

WORDS = (MARKER_NAME, MARKER_NAME.upper(), MARKER_NAME.lower(), MARKER_NUMBER)
OURS = ("postgres", "sftp/homes")


def spellings(word: str) -> Iterator[bytes]:
    """A word as bytes, in UTF-8 and UTF-16, plain, hexadecimal, and inside base64 at any place."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        data = word.encode(encoding)
        yield data
        yield data.hex().encode()
        yield from at_any_place_in_base64(data)


def at_any_place_in_base64(data: bytes) -> Iterator[bytes]:
    """The letters of base64 that hang on `data` alone, for each of the three places where it may begin."""
    for shift in range(3):
        text = base64.b64encode(bytes(shift) + data)
        first = -(-shift * 8 // 6)
        last = (shift + len(data)) * 8 // 6
        yield text[first:last]


SPELLINGS = {spelling: word for word in WORDS for spelling in spellings(word)}


def seen(data: bytes) -> set[str]:
    """Which marker stands in some bytes, in whatever spelling; what is compressed is opened first."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return {word.casefold() for spelling, word in SPELLINGS.items() if spelling in data}


@pytest.mark.parametrize("shift", range(4))
@pytest.mark.parametrize("word", [MARKER_NAME, MARKER_NUMBER])
def test_the_search_finds_every_spelling(word: str, shift: int) -> None:
    around = "x" * shift + word + "é"
    inside = pickle.dumps({"name": around})
    nested = json.dumps({"result": base64.b64encode(inside).decode()}).encode()
    for data in (around.encode(), around.encode("utf-16"), inside, nested, gzip.compress(nested)):
        assert seen(data) == {word.casefold()}
    assert not seen(json.dumps({"count": 12, "code": "not-a-date", "location": "PID-5.1"}).encode())


def test_the_marker_went_all_the_way(site: Any, demo: Any) -> None:
    for partner in ("northside", "eastlab", "county"):
        found = site.one(
            "select count(*) from fhir.resource where partner = %s and resource::text like %s",
            partner,
            f"%{MARKER_NAME}%",
        )
        assert found > 0, partner
    dropped = (site.home / "sftp" / "homes").rglob("*")
    assert any(MARKER_NAME.casefold() in seen(path.read_bytes()) for path in dropped if path.is_file())


def test_no_file_holds_the_marker_but_those_of_postgres_and_the_drop_zones(site: Any, second: Any) -> None:
    looked = []
    for path in site.home.rglob("*"):
        place = path.relative_to(site.home).as_posix()
        if path.is_file() and not place.startswith(OURS):
            assert not seen(path.read_bytes() + place.encode()), place
            looked.append(place)
    assert len([place for place in looked if place.startswith("landing/")]) > 50
    logs = {place for place in looked if place.startswith("logs/")}
    assert {f"logs/{name}.log" for name in ("postgres", "sftp", "s3", "fhir-ehr", "prefect", "worker")} <= logs


def test_no_table_of_prefects_database_holds_the_marker(site: Any, second: Any, tmp_path: Path) -> None:
    with (
        sqlite3.connect(f"file:{site.home / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database,
        sqlite3.connect(tmp_path / "copy.db") as copy,
    ):
        database.backup(copy)
        tables = [row[0] for row in copy.execute("select name from sqlite_master where type = 'table'")]
        rows = 0
        for table in tables:
            for row in copy.execute(f'select * from "{table}"'):
                rows += 1
                assert not seen(b"\0".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)), (
                    table
                )
    assert {"flow_run", "task_run", "artifact", "log", "flow_run_state"} <= set(tables)
    assert rows > 500


@pytest.mark.parametrize("kind", ["flow_runs", "task_runs", "artifacts", "logs", "deployments", "flows"])
def test_nothing_that_prefects_api_tells_holds_the_marker(site: Any, second: Any, kind: str) -> None:
    found = site.everything(kind)
    assert len(found) >= 2
    assert not seen(json.dumps(found, ensure_ascii=False).encode())


def test_no_event_of_prefect_holds_the_marker(site: Any, second: Any) -> None:
    page = site.prefect("events/filter", limit=50)
    events = list(page["events"])
    import httpx

    while page.get("next_page"):
        page = httpx.get(page["next_page"], timeout=60).json()
        events += page["events"]
    assert len(events) > 50
    assert not seen(json.dumps(events, ensure_ascii=False).encode())


def test_no_table_of_the_ledger_holds_the_marker(site: Any, second: Any) -> None:
    tables = site.rows(
        """
        select table_schema, table_name from information_schema.tables
        where table_schema not in ('fhir', 'staging', 'core', 'mart', 'pg_catalog', 'information_schema')
        """
    )
    assert ("ledger", "quarantine") in tables
    assert ("ops", "delivery") in tables
    rows = 0
    for schema, name in tables:
        if (schema, name) == ("restricted", "unmapped_code"):
            continue
        for (row,) in site.rows(f"select t::text from {schema}.{name} t"):
            rows += 1
            assert not seen(row.encode()), f"{schema}.{name}"
    assert rows > 10_000


def test_the_store_of_the_gate_and_staging_is_empty_after_the_day(site: Any, second: Any) -> None:
    assert (
        site.one(
            "select count(*) from staging.resource where batch_id not in (select id from ledger.batch "
            "where state in ('staged', 'held'))"
        )
        == 0
    )


def test_no_command_prints_the_marker(site: Any, second: Any) -> None:
    for command in (["status"], ["doctor"], ["quarantine", "list"], ["feed", "check"]):
        assert not seen(site.sluice(*command).encode())
    patient = site.one("select id from fhir.resource where resource::text like %s limit 1", f"%{MARKER_NAME}%")
    assert not seen(site.sluice("lineage", patient).encode())
    for row in site.facts("quarantine", "list"):
        assert not seen(site.sluice("quarantine", "show", row["record"]).encode())
        assert not seen(site.sluice("lineage", row["record"]).encode())
