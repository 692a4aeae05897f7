"""Who reads what: an analyst the tables, an operator the ledger, and neither the store or the unmapped codes."""

from __future__ import annotations

import psycopg
import pytest

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
