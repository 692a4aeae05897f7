"""The auth file: every type in its smallest form, every mistake by its key."""

from __future__ import annotations

import json

import pytest

from tasks.errors import ConfigError
from tasks.http_auth import (
    Basic,
    Bearer,
    ClientCredentials,
    NoAuth,
    SmartBackend,
    connection_auth,
    parse_auth,
    read_auth,
)

KEY = {"kty": "EC", "kid": "k", "alg": "ES384", "d": "secret"}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"type": "none"}, NoAuth),
        ({"type": "bearer", "token": "t"}, Bearer),
        ({"type": "basic", "username": "u", "password": "p"}, Basic),
        ({"type": "client-credentials", "client_id": "c", "client_secret": "s"}, ClientCredentials),
        ({"type": "smart-backend", "client_id": "c", "private_key_jwk": KEY, "scope": "system/*.rs"}, SmartBackend),
    ],
)
def test_every_type_is_read_from_a_file_and_told_from_the_keys_of_a_connection(values, kind, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(values))
    assert type(read_auth(tmp_path / "a.json")) is kind
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in values.items() if k != "type"}
    assert type(connection_auth({**texts, "base_url": "https://x"})) is kind


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "type is missing"),
        ({"type": "smart-backends"}, "did you mean smart-backend"),
        ({"type": ["bearer"]}, "not known"),
        ({"type": "bearer"}, "token is missing"),
        ({"type": "basic", "user_name": "u", "password": "p", "username": "u"}, "unknown key user_name.*username"),
        (
            {"type": "client-credentials", "client_id": "c", "client_secret": "s", "token_url": "x"},
            "token_url is not an",
        ),
        ({"type": "smart-backend", "client_id": "c"}, "exactly one of private_key_jwk and private_key_file"),
        ({"type": "bearer", "token": "t", "client_key": "k"}, "without client_certificate"),
        ({"type": "bearer", "token": {"SECRET": 1}}, "token"),
    ],
)
def test_a_mistake_names_the_file_and_the_key_and_no_value(values, said):
    with pytest.raises(ConfigError) as raised:
        parse_auth({**values, **({"password": "SECRET"} if "password" in values else {})}, "auth.json")
    text = "\n".join(raised.value.problems)
    assert text.startswith("auth.json")
    import re

    assert re.search(said, text)
    assert "SECRET" not in text


def test_a_file_that_is_not_json_or_not_there_is_one_line(tmp_path):
    (tmp_path / "a.json").write_text('{"type": SECRET}')
    with pytest.raises(ConfigError, match=":1: the auth file is not JSON"):
        read_auth(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_auth(tmp_path / "none.json")


def test_secrets_do_not_show_in_a_representation():
    auth = parse_auth({"type": "basic", "username": "u", "password": "SECRET"}, "x")
    assert "SECRET" not in repr(auth)
