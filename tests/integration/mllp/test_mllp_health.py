"""What a monitor sees of the listener: alive, ready, counts by feed, and no value."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request

import psycopg
from mllp_process import process
from mllp_site import Site, message, msa


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_listener_tells_a_monitor_what_it_does_and_no_value(site: Site, postgres_url: str) -> None:
    with process("--health-port", "0") as (running, port, health):
        sender = site.sender(port)
        assert msa(sender.ask(message("C1", family="Findme")))[0] == "AA"
        assert msa(sender.ask(message("C2", msh12="3.0")))[0] == "AR"
        assert get(health, "/healthz")[0] == get(health, "/readyz")[0] == 200
        assert get(health, "/else")[0] == 404
        status, text = get(health, "/metrics")
        assert status == 200
        for line in (
            f'sluice_received_total{{feed="{site.feed}",via="mllp"}} 2.0',
            f'sluice_acknowledged_total{{code="AA",feed="{site.feed}"}} 1.0',
            f'sluice_refused_total{{feed="{site.feed}",reason="203"}} 1.0',
            f'sluice_connections{{feed="{site.feed}"}} 1.0',
            f'sluice_in_flight{{feed="{site.feed}"}} 0.0',
            f'sluice_landing_seconds_count{{feed="{site.feed}"}} 1.0',
        ):
            assert line in text
        assert "Findme" not in text
        assert "C1" not in text
        name = site.url.rpartition("/")[2]
        with psycopg.connect(postgres_url, autocommit=True) as admin:
            admin.execute(f"alter database {name} with allow_connections false")
            admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
            assert msa(sender.ask(message("C3", mrn="3")))[0] == "AR"
            assert get(health, "/readyz")[0] == 503
            admin.execute(f"alter database {name} with allow_connections true")
        assert msa(sender.ask(message("C3", mrn="3")))[0] == "AA"
        assert get(health, "/readyz")[0] == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 0
