import base64
import json
from pathlib import Path

import pytest

from tasks import settings as module
from tasks.errors import ConfigError
from tasks.settings import connection, landing_keys, settings, state_folder

KEY, OTHER = base64.b64encode(b"k" * 32).decode(), base64.b64encode(b"o" * 32).decode()


@pytest.fixture(autouse=True)
def _only_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("SLUICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SLUICE_HOME", str(tmp_path))


@pytest.fixture
def _whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_WAREHOUSE_URL", "postgresql://x:hush@y/z")
    monkeypatch.setenv("SLUICE_LANDING_KEY", f"one:{KEY}")


def test_the_state_folder_is_the_projects_own_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_folder() == tmp_path
    monkeypatch.delenv("SLUICE_HOME")
    assert state_folder() == module.PROJECT / ".sluice"


def test_everything_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        settings()
    assert [problem.split(":")[0] for problem in error.value.problems] == ["no Postgres", "no landing key"]


@pytest.mark.usefixtures("_whole")
def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    found = settings()
    assert (found.batch_records, found.lease_seconds) == (5000, 60)
    assert found.landing == str(tmp_path / "landing")
    assert found.landing_keys == {"one": b"k" * 32}


@pytest.mark.usefixtures("_whole")
def test_no_secret_stands_in_the_settings_text() -> None:
    assert "hush" not in repr(settings())
    assert "kkkk" not in repr(settings())


@pytest.mark.usefixtures("_whole")
def test_the_environment_goes_before_what_the_stack_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"SLUICE_WAREHOUSE_URL": "of the stack", "SLUICE_BATCH_RECORDS": "77"}
    (tmp_path / "environment.json").write_text(json.dumps(said))
    assert settings().warehouse_url == "postgresql://x:hush@y/z"
    assert settings().batch_records == 77
    monkeypatch.delenv("SLUICE_WAREHOUSE_URL")
    assert settings().warehouse_url == "of the stack"


@pytest.mark.usefixtures("_whole")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLUICE_BATCH_RECORDS", "0"),
        ("SLUICE_BATCH_RECORDS", "50001"),
        ("SLUICE_BATCH_RECORDS", "-5"),
        ("SLUICE_BATCH_RECORDS", "1e3"),
        ("SLUICE_LEASE_SECONDS", "0"),
        ("SLUICE_LEASE_SECONDS", "3601"),
    ],
)
def test_a_number_outside_its_range_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name}: a whole number from"):
        settings()


def test_the_first_landing_key_is_the_one_that_seals() -> None:
    keys = landing_keys(f"new:{KEY}, old:{OTHER}")
    assert list(keys.items()) == [("new", b"k" * 32), ("old", b"o" * 32)]


@pytest.mark.parametrize(
    "text", ["x", "x:", f":{KEY}", f"x:{KEY}x", f"x:{KEY},", "x:" + base64.b64encode(b"k" * 31).decode()]
)
def test_a_landing_key_of_another_form_is_told_without_it(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        landing_keys(text)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("name", ["some-lab", "some.lab", "Some_Lab"])
def test_a_connection_is_found_by_its_name_in_capitals(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("SLUICE_CONNECTION_SOME_LAB", '{"host": "there"}')
    assert connection(name) == {"host": "there"}
    assert connection(None) == {}


@pytest.mark.parametrize("value", ["", "secret", "[]", '{"port": 22}', '"secret"', "{"])
def test_a_connection_of_another_form_is_told_without_its_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SLUICE_CONNECTION_LAB", value)
    with pytest.raises(ConfigError, match="connection lab: SLUICE_CONNECTION_LAB is not a JSON object") as error:
        connection("lab")
    assert "secret" not in str(error.value)


def test_a_connection_that_nobody_knows_is_told() -> None:
    with pytest.raises(ConfigError, match="connection lab: nothing is known of it; set SLUICE_CONNECTION_LAB"):
        connection("lab")
