"""Retry-After in every form, the backoff, the pace, what an error says."""

from __future__ import annotations

import logging
from email.utils import formatdate

import httpx
import pytest

from tasks import http
from tasks.errors import ConfigError, Permanent, Transient
from tasks.http import Retry, check_url, client, plainly, retry_after
from tasks.http_pace import Pace

NOW = 1_700_000_000.0


@pytest.fixture(autouse=True)
def frozen(monkeypatch):
    monkeypatch.setattr(http.time, "time", lambda: NOW)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 1.5 ", 1.5),
        ("9999", 120),
        (formatdate(NOW + 30, usegmt=True), 30),
        (formatdate(NOW - 30, usegmt=True), 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 120),
        (str(int(NOW * 1000) + 5000), 5),
        (str(int(NOW * 1000) - 5000), 0),
        (str(int(NOW) + 9), 9),
        ("-1", None),
        ("nan", None),
        ("inf", 120),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_in_every_form_and_clamped(said, seconds):
    found = retry_after({"retry-after": said} if said else {})
    assert found == (None if seconds is None else pytest.approx(seconds, abs=0.01))


def test_the_backoff_doubles_up_to_its_ceiling_and_obeys_the_server_within_it():
    retry = Retry(attempts=9, base=1, ceiling=40)
    assert 0.75 <= retry.delay(1) <= 1.25
    assert 3 <= retry.delay(3) <= 5
    assert retry.delay(50) <= 12.5
    assert retry.delay(1, 25) == 25
    assert retry.delay(1, 100) == 40
    assert retry.delay(1, 0) == 0.05
    assert retry.delay(5, 0) == pytest.approx(0.8)


def test_the_pace_halves_when_told_and_grows_back_one_by_one():
    pace = Pace(8)
    pace.slow()
    assert pace.limit == 4
    for _ in range(8):
        pace.fine()
    assert pace.limit == 5
    for _ in range(10):
        pace.slow()
    assert pace.limit == 1
    for _ in range(1000):
        pace.fine()
    assert pace.limit == 8


def test_refusals_of_requests_that_were_under_way_together_halve_once():
    pace = Pace(8)
    for _ in range(8):
        pace.slow(60)
    assert pace.limit == 4


@pytest.mark.parametrize("url", ["ftp://x", "x", "http://", "https://user:SECRET@host/fhir", "http://[::1"])
def test_an_url_that_cannot_be_used_is_a_mistake_told_without_it(url):
    with pytest.raises(ConfigError) as raised:
        check_url(url)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ReadTimeout, Transient),
        (httpx.ConnectError, Transient),
        (httpx.RemoteProtocolError, Transient),
        (httpx.UnsupportedProtocol, Permanent),
    ],
)
def test_what_httpx_raises_becomes_an_error_without_query_or_cause(error, kind):
    url = "https://host:8443/fhir/Patient?name=SECRET"
    with pytest.raises(kind) as raised, plainly("the search", url):
        raise error("SECRET", request=httpx.Request("GET", url))
    assert "https://host:8443" in str(raised.value)
    assert "SECRET" not in str(raised.value)
    assert raised.value.__suppress_context__


def test_the_loggers_of_the_client_do_not_show_urls(caplog):
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG), client("http://127.0.0.1:9/fhir") as made, pytest.raises(httpx.ConnectError):
        made.get("http://127.0.0.1:9/fhir/Patient?name=SECRET")
    assert caplog.records == []


@pytest.mark.parametrize("key", ["ca_bundle", "client_certificate"])
def test_a_certificate_file_that_is_none_is_a_mistake_that_names_the_key(key, tmp_path):
    from tasks.http_auth import parse_auth

    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=key):
        client("https://host/fhir", parse_auth({"type": "none", key: str(tmp_path / "x.pem")}, "x"))
