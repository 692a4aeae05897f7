"""How long the example queries take over many observations: `python tests/bench/mart.py [OBSERVATIONS]` prints JSON.

The core tables are filled by SQL: 20 observations an order, 50 an encounter, 100 a patient, 10 a charge, over three
years. Then the marts are built, and every query of docs/queries.md is asked three times as an analyst; its median, in
seconds, counts.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from infra.dev.scratch import scratch_postgres
from infra.migrations import upgrade
from tasks.core_marts import core_marts
from tasks.ledger.db import Connection, connect
from tasks.publish.marts import ensure_marts
from tasks.publish.tables import apply

PAGE = Path(__file__).parents[2] / "docs" / "queries.md"
GOAL = 1.0
FILL = (
    """
    insert into ledger.delivery (feed, partner, format, name, version, state, landed_at)
    select 'north.adt', 'north', 'hl7v2', 'day', n::text, 'read', now() - make_interval(days => n)
    from generate_series(1, 1000) n
    """,
    """
    insert into core.patient (id, mrn, mrn_system, family, given, birth_date, gender, phone, version_id, record_id)
    select 'p' || n, (100000 + n)::text, 'urn:x', 'Family' || n, 'Given' || n % 1000, date '1930-01-01' + n % 33000,
           'female', '+1 212 555 ' || n % 10000, 1, (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n} / 100) n
    """,
    """
    insert into core.encounter (id, patient_id, identifier_value, status, class_code, start_at, start_text, end_at,
                                end_text, location_id, version_id, record_id)
    select 'e' || n, 'p' || 1 + n % ({n} / 100), 'V' || n, 'finished', case n % 3 when 0 then 'IMP' else 'AMB' end, at,
           to_char(at, 'YYYY-MM-DD'), at + interval '2 days', to_char(at + interval '2 days', 'YYYY-MM-DD'),
           'l' || n % 40, 1, (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n} / 50) n, lateral (select now() - make_interval(mins => n % 1500000)) t(at)
    """,
    """
    insert into core.service_request (id, patient_id, encounter_id, status, code_system, code_code, code_display,
                                      authored_at, version_id, record_id)
    select 's' || n, 'p' || 1 + n % ({n} / 100), 'e' || 1 + n % ({n} / 50), 'completed', 'http://loinc.org',
           '24' || n % 30, 'Panel', now() - make_interval(mins => n % 1500000), 1, (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n} / 20) n
    """,
    """
    insert into core.diagnostic_report (id, patient_id, encounter_id, status, code_code, service_request_id,
                                        effective_at, issued_at, version_id, record_id)
    select 'd' || n, 'p' || 1 + n % ({n} / 100), 'e' || 1 + n % ({n} / 50), 'final', '24' || n % 30, 's' || n, at,
           at + make_interval(mins => n % 300), 1, (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n} / 20) n, lateral (select now() - make_interval(mins => n % 1500000)) t(at)
    """,
    """
    select ops.divide('core.observation',
                      years => array(select extract(year from now())::int - n from generate_series(0, 3) n))
    """,
    """
    select ops.divide('core.charge_item',
                      years => array(select extract(year from now())::int - n from generate_series(0, 3) n))
    """,
    """
    insert into core.observation (id, patient_id, encounter_id, service_request_id, status, code_system, code_code,
                                  code_display, loinc_code, effective_at, issued_at, value_value, value_ucum,
                                  reference_low, reference_high, version_id, record_id)
    select 'o' || n, 'p' || 1 + n % ({n} / 100), 'e' || 1 + n % ({n} / 50), 's' || 1 + n % ({n} / 20), 'final',
           'http://loinc.org', code, 'Analyte', code, at, at, 3 + n % 50 / 10.0, 'mmol/L', 3.5, 7.5, 1,
           (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n}) n, lateral (select now() - make_interval(mins => n % 1500000)) t(at),
         lateral (select n / ({n} / 100) % 20) k(kind),
         lateral (select case kind when 0 then '2823-3' else (2000 + kind) || '-1' end) c(code)
    """,
    """
    insert into core.charge_item (id, patient_id, encounter_id, account_id, status, code_code, occurrence_at,
                                  quantity_value, price_value, price_currency, version_id, record_id)
    select 'c' || n, 'p' || 1 + n % ({n} / 100), 'e' || 1 + n % ({n} / 50), 'a' || 1 + n % ({n} / 50), 'billable',
           '99' || n % 500, now() - make_interval(mins => n % 1500000), 1, 10 + n % 90, 'USD', 1,
           (1 + n % 1000)::bigint << 32 | n
    from generate_series(1, {n} / 10) n
    """,
    """
    insert into ops.view_rows (name, delivery_id, rows)
    select 'observation', record_id >> 32, count(*) from core.observation group by 2
    """,
)


def main(count: int = 200_000) -> dict[str, Any]:
    """Return the seconds of building and of each query."""
    with scratch_postgres(durable=False) as url:
        upgrade(url)
        with connect(url) as connection:
            apply(connection)
            filled = timed(lambda: [connection.execute(text.replace("{n}", str(count)).encode()) for text in FILL])
            connection.execute("analyze")
            read = {table for mart in core_marts() for table in mart.reads.values()}
            built = timed(lambda: ensure_marts(connection, core_marts(), read))
            # as autovacuum leaves tables that were filled
            connection.execute("vacuum")
            connection.execute("set role sluice_analyst")
            queries = {title: asked(connection, text) for title, text in questions().items()}
    return {
        "observations": count,
        "filled": round(filled, 1),
        "marts_built": round(built, 1),
        "queries": queries,
        "slowest": max(queries.values()),
        "goal": GOAL,
        "met": max(queries.values()) <= GOAL,
    }


def questions() -> dict[str, str]:
    """Return the queries of the page by title."""
    return dict(re.findall(r"^## (.+?)\n.*?```sql\n(.+?)```", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def asked(connection: Connection, text: str) -> float:
    """Return the median of three answers."""
    return round(statistics.median(timed(lambda: connection.execute(text.encode()).fetchall()) for _ in range(3)), 3)


def timed(work: Any) -> float:
    """Return the seconds that something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:])), indent=2))
