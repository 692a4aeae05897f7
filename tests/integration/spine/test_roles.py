"""Who reads what: an analyst the tables, an operator the ledger, and neither the store or the unmapped codes."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.engine import make_url

from infra.dev.postgres import ensure_login
from tasks.ledger import audit
from tasks.ledger.db import connect
from tasks.ledger.prune import ensure_partitions
from tasks.publish.view_parts import divide_all

READS = {
    "sluice_analyst": ("core.patient",),
    "sluice_ops": ("ops.delivery", "ledger.quarantine"),
    "sluice_mapper": ("restricted.unmapped_code",),
}
ALL = (
    "core.patient",
    "ops.delivery",
    "ledger.quarantine",
    "restricted.unmapped_code",
    "fhir.resource",
    "staging.resource",
)


@pytest.mark.parametrize("role", READS)
def test_a_role_reads_what_it_is_for_and_nothing_else(site, role):
    for table in ALL:
        with psycopg.connect(site.url, autocommit=True) as connection:
            connection.execute(f"set role {role}")
            if table in READS[role]:
                connection.execute(f"select * from {table}")
            else:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(f"select * from {table}")


@pytest.mark.parametrize("role", READS)
def test_no_reading_role_writes(site, role):
    for table in READS[role]:
        with psycopg.connect(site.url, autocommit=True) as connection:
            connection.execute(f"set role {role}")
            with pytest.raises(psycopg.Error):
                connection.execute(f"delete from {table}")


def test_upkeep_divides_a_table_as_the_loader_and_nobody_else_may(loader):
    with psycopg.connect(loader.url, autocommit=True) as connection:
        connection.execute(
            "insert into core.observation (id, effective_at, version_id, record_id) "
            "select 'n' || n, '2019-05-01', 1, 1 from generate_series(1, 1000) n"
        )
        assert divide_all(connection) == 1
        connection.execute("set role sluice_loader")
        assert connection.execute("select count(*) from core.observation_2019").fetchone() == (1000,)
    with psycopg.connect(loader.own_url, autocommit=True) as connection:
        connection.execute("set role sluice_ops")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select ops.divide('core.observation')")


@pytest.fixture
def loader(site, monkeypatch):
    """The site, with the loader's login instead of the owner's."""
    ensure_login(site.url, "loader_of_tests", "loader", "sluice_loader")
    url = make_url(site.url).set(username="loader_of_tests", password="loader").render_as_string(hide_password=False)
    monkeypatch.setenv("SLUICE_WAREHOUSE_URL", url)
    site.own_url, site.url = site.url, url
    return site


@pytest.mark.usefixtures("sound")
def test_the_loader_takes_deliveries_corrections_and_operators_acts_through_every_stage(loader, adt):
    loader.write("day.hl7", adt(mrn="1"), adt(mrn="2"), "MSH|^~\\&|garbage\r")
    counts = loader.run()
    assert (counts["published"], counts["quarantined"]) == (2, 1)
    loader.write("day.hl7", adt(mrn="1"))
    loader.run()
    assert loader.rows("select count(*) from mart.patient_search_index") == [(1,)]
    with connect(loader.url) as connection:
        assert ensure_partitions(connection) >= 0
        assert divide_all(connection) == 0
        audit.append(connection, "ada", "test", "nothing", "to see that it can")


@pytest.mark.parametrize(
    "statement",
    [
        "drop table core.patient",
        "create table fhir.mine (a int)",
        "alter table ledger.record add column a int",
        "truncate fhir.resource",
        "delete from ledger.audit",
        "update ledger.audit set reason = ''",
        "create schema mine",
        "create role mine",
    ],
)
def test_the_loader_makes_changes_and_drops_nothing(loader, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        loader.rows(statement)
