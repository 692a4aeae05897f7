"""What goes wrong around a run: full and read-only disks, two at once, the same again, clocks."""

from __future__ import annotations

import os
import pwd
import signal
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import psycopg
import pytest
from mounts import read_only, small

from infra.chaos.picture import Picture
from infra.chaos.workload import Round, rounds
from infra.chaos.world import stopped, wait_for
from infra.dev.postgres import system_user

HL7 = "northside.hl7"

pytestmark = pytest.mark.slow


@pytest.fixture
def sent() -> Round:
    return next(rounds(7, ("hl7",)))


@pytest.fixture
def wanted(sites: Callable, sent: Round) -> Picture:
    """What the file becomes where nothing happens."""
    calm = sites("calm")
    calm.drop(sent)
    calm.rest([HL7])
    return calm.picture()


def ask(site, query: str):
    with psycopg.connect(site.url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def test_a_full_disk_on_landing_acknowledges_nothing_and_is_gone_on_from_when_there_is_room(
    sites: Callable, sent: Round, wanted: Picture, tmp_path: Path
) -> None:
    site = sites("full")
    with small(tmp_path / "landing", 4096) as disk:
        site.env["SLUICE_LANDING"] = str(disk.folder)
        site.drop(sent)
        assert site.run(HL7) == 1
        assert ask(site, "select state, finished_at from ledger.delivery") == [("landing", None)]
        assert (site.folder / "drop" / "hl7" / sent.name).exists()
        assert not [path for path in disk.folder.rglob("*") if path.is_file()], "nothing half written is left"
        disk.room(16 << 20)
        site.rest([HL7])
        assert site.picture().differences(wanted) == []


@pytest.mark.parametrize("table", ["staging.resource", "ledger.batch_slice", "fhir.contribution_of_0"])
def test_a_full_disk_on_postgres_changes_nothing_and_is_gone_on_from_when_there_is_room(
    sites: Callable, sent: Round, wanted: Picture, tmp_path: Path, table: str
) -> None:
    site = sites("full")
    with small(tmp_path / "space", 32 << 10) as disk:
        if user := system_user():
            os.chown(disk.folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
        for folder in disk.folder.parents:
            if folder != Path("/"):
                folder.chmod(folder.stat().st_mode | 0o111)
        space = f"space_{os.getpid()}"
        ask_nothing(site, f"create tablespace {space} location '{disk.folder}'")
        try:
            ask_nothing(site, f"alter table {table} set tablespace {space}")
            disk.room(disk_used(disk.folder))
            site.drop(sent)
            assert site.run(HL7) == 1
            assert ask(site, "select state from ledger.delivery") == [("landed",)] or table != "staging.resource"
            assert ask(site, "select * from ops.invariant") == []
            disk.room(64 << 20)
            site.rest([HL7])
            assert site.picture().differences(wanted) == []
        finally:
            disk.room(64 << 20)
            ask_nothing(site, f"alter table {table} set tablespace pg_default")
            ask_nothing(site, f"drop tablespace {space}")


def disk_used(folder: Path) -> int:
    """What stands in a small file system now: as large as this, it takes nothing more."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize or found.f_frsize


def ask_nothing(site, statement: str) -> None:
    with psycopg.connect(site.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_in_a_read_only_drop_folder_what_was_landed_is_kept_and_archived_when_that_can_be(
    sites: Callable, sent: Round, wanted: Picture
) -> None:
    site = sites("readonly")
    site.drop(sent)
    with read_only(site.folder / "drop" / "hl7"):
        assert site.run(HL7) == 1
        assert ask(site, "select state, finished_at from ledger.delivery") == [("landed", None)]
    site.rest([HL7])
    assert site.picture().differences(wanted) == []
    assert not (site.folder / "drop" / "hl7" / sent.name).exists()


def test_in_a_read_only_landing_nothing_is_acknowledged(
    sites: Callable, sent: Round, wanted: Picture, tmp_path: Path
) -> None:
    site = sites("readonly")
    landing = tmp_path / "landing"
    landing.mkdir()
    site.env["SLUICE_LANDING"] = str(landing)
    site.drop(sent)
    with read_only(landing):
        assert site.run(HL7) == 1
        assert ask(site, "select state from ledger.delivery") == [("landing",)]
    site.rest([HL7])
    assert site.picture().differences(wanted) == []


def test_two_pollers_of_one_feed_do_the_work_once(sites: Callable, sent: Round, wanted: Picture) -> None:
    site = sites("two")
    site.drop(sent)
    site.arm("staged", "freeze")
    one = site.begin(HL7)
    assert wait_for(lambda: stopped(one.pid))
    assert site.run(HL7) == 0, "the second one finds the feed taken and has nothing to do"
    assert ask(site, "select count(*) from ledger.batch") == [(1,)]
    os.kill(one.pid, signal.SIGCONT)
    both = [site.begin(HL7), one]
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    site.rest([HL7])
    assert site.picture().differences(wanted) == []


def test_the_same_delivery_twice_at_once_and_renamed_is_published_once(
    sites: Callable, sent: Round, wanted: Picture
) -> None:
    site = sites("same")
    for name in (sent.name, f"copy_of_{sent.name}"):
        site.drop(Round("hl7", name, sent.data))
    pollers = [site.begin(HL7), site.begin(HL7)]
    for process in pollers:
        process.join(60)
    site.rest([HL7])
    site.drop(Round("hl7", f"again_{sent.name}", sent.data))
    site.rest([HL7])
    found = site.picture()
    for part in ("store", "history", "contributions", "server", "core", "outbox", "invariant"):
        assert found.parts[part] == wanted.parts[part], part
    [(received, published, duplicate)] = ask(
        site, "select sum(received)::int, sum(published)::int, sum(duplicate)::int from ops.delivery"
    )
    assert duplicate == 2 * received / 3
    assert received == published + duplicate + ask(site, "select count(*)::int from ledger.quarantine")[0][0]


def test_corrected_while_its_first_form_is_in_flight_the_correction_stands(sites: Callable, sent: Round) -> None:
    """The correction comes while a run of the first form stands still, and once after it: the same end."""
    less = sent.data[: sent.data.rindex(b"MSH|")]
    pictures = []
    for name, early in (("calm", False), ("early", True)):
        site = sites(name)
        site.drop(sent)
        if early:
            site.arm("gated", "freeze")
            asleep = site.begin(HL7)
            assert wait_for(lambda asleep=asleep: stopped(asleep.pid))
            site.drop(Round("hl7", sent.name, less))
            os.kill(asleep.pid, signal.SIGCONT)
            asleep.join(60)
        else:
            site.rest([HL7])
            site.drop(Round("hl7", sent.name, less))
        site.rest([HL7])
        pictures.append(site.picture())
    assert pictures[1].differences(pictures[0]) == []


def test_a_partners_clock_that_goes_back_loses_nothing(sites: Callable) -> None:
    """Files whose times of change lie ten minutes ahead, then behind those that were taken before."""
    plan = list(islice(rounds(9, ("hl7",)), 3))
    pictures = []
    for name, offsets in (("calm", (0, 0, 0)), ("off", (600, -600, -6000))):
        site = sites(name)
        for one, offset in zip(plan, offsets, strict=True):
            site.drop(one)
            moment = time.time() + offset
            place = site.folder / "drop" / "hl7" / one.name
            os.utime(place, (moment, moment))
            site.rest([HL7])
        pictures.append(site.picture())
    assert pictures[1].differences(pictures[0]) == []
