"""A feed over HTTP on a real socket, an OpenID provider, and the stages behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.http_intake.http_site import Provider, Site


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def site(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Iterator[Site]:
    (tmp_path / "feeds").mkdir()
    monkeypatch.setenv("SLUICE_FEEDS", str(tmp_path / "feeds"))
    made = Site(warehouse_url, tmp_path / "feeds", provider)
    yield made
    made.stop()
