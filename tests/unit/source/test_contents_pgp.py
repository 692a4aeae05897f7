"""OpenPGP: decrypted and verified, and what is wrong has a code of its own each."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterator

import psutil
import pysequoia
import pytest
from pysequoia import Tsk

from tasks.errors import BadRecord, ConfigError, Transient
from tasks.source.contents import Limits, unwrap
from tasks.source.contents_pgp import PgpKeys

BACKDATED = 60
"""Seconds by which Sequoia dates a new key back."""


@pytest.fixture(scope="module")
def us() -> Tsk:
    return Tsk.generate("us <us@sluice.example>")


@pytest.fixture(scope="module")
def partner() -> Tsk:
    return Tsk.generate("partner <lab@partner.example>")


@pytest.fixture(scope="module")
def keys(us: Tsk, partner: Tsk) -> PgpKeys:
    return PgpKeys(bytes(us), None, bytes(partner.extract_certificate()))


def sealed(us: Tsk, partner: Tsk | None, data: bytes, armor: bool = False) -> bytes:
    signer = partner.signer() if partner else None
    return bytes(pysequoia.encrypt(data, recipients=[us.extract_certificate()], signer=signer, armor=armor))


def cut(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def code(keys: PgpKeys, data: bytes) -> str:
    with pytest.raises(BadRecord) as raised:
        b"".join(keys.decrypt(cut(data)))
    (finding,) = raised.value.findings
    return finding.code


@pytest.mark.parametrize("armor", [True, False])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_what_the_partner_signed_and_encrypted_to_us_is_read(
    us: Tsk, partner: Tsk, keys: PgpKeys, armor: bool, size: int
) -> None:
    data = os.urandom(size)
    assert b"".join(keys.decrypt(cut(sealed(us, partner, data, armor)))) == data


def test_a_message_to_somebody_else_is_the_wrong_key(partner: Tsk, keys: PgpKeys) -> None:
    other = Tsk.generate("other <o@other.example>")
    assert code(keys, sealed(other, partner, b"x")) == "pgp-wrong-key"


def test_a_message_without_a_signature_is_unsigned(us: Tsk, keys: PgpKeys) -> None:
    assert code(keys, sealed(us, None, b"x")) == "pgp-unsigned"


def test_a_message_that_a_stranger_signed_is_refused(us: Tsk, keys: PgpKeys) -> None:
    assert code(keys, sealed(us, Tsk.generate("stranger <s@s.example>"), b"x")) == "pgp-unknown-signer"


def test_a_signature_made_after_the_signers_key_expired_is_refused(us: Tsk) -> None:
    expiring = Tsk.generate("late <l@partner.example>", validity_seconds=BACKDATED + 2)
    signer, certificate = expiring.signer(), expiring.extract_certificate()
    while (ends := certificate.expiration) is not None and time.time() <= ends.timestamp() + 1:
        time.sleep(0.2)
    data = pysequoia.encrypt(b"x", recipients=[us.extract_certificate()], signer=signer)
    assert code(PgpKeys(bytes(us), None, bytes(certificate)), bytes(data)) == "pgp-expired-key"


def test_one_changed_byte_is_tampering(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    whole = sealed(us, partner, os.urandom(100_000))
    for at in (2000, len(whole) // 2, len(whole) - 30):
        changed = bytearray(whole)
        changed[at] ^= 1
        assert code(keys, bytes(changed)) == "pgp-tampered"


def test_a_message_that_was_cut_off_is_tampering(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    assert code(keys, sealed(us, partner, os.urandom(100_000))[:-5000]) == "pgp-tampered"


def test_what_is_no_message_is_malformed(keys: PgpKeys) -> None:
    assert code(keys, b"MSH|^~\\&|") == "pgp-malformed"
    assert code(keys, b"") == "pgp-malformed"


def test_one_of_several_signers_is_enough_and_no_signers_mean_no_verification(us: Tsk, partner: Tsk) -> None:
    other = Tsk.generate("other <o@other.example>")
    both = b"".join(str(each.extract_certificate()).encode() for each in (other, partner))
    assert b"".join(PgpKeys(bytes(us), None, both).decrypt(cut(sealed(us, partner, b"x")))) == b"x"
    assert b"".join(PgpKeys(bytes(us)).decrypt(cut(sealed(us, None, b"x")))) == b"x"


def test_our_own_key_that_cannot_be_used_is_a_mistake_of_configuration(us: Tsk, partner: Tsk) -> None:
    for keys in (PgpKeys(b"nonsense"), PgpKeys(bytes(us.extract_certificate())), PgpKeys(bytes(us), None, b"nonsense")):
        with pytest.raises(ConfigError):
            b"".join(keys.decrypt(cut(sealed(us, partner, b"x"))))
    with pytest.raises(ConfigError, match="secret_key"):
        PgpKeys.of({})


def test_the_values_of_a_connection_make_keys(us: Tsk, partner: Tsk) -> None:
    values = {"secret_key": str(us), "signers": str(partner.extract_certificate()).replace("\n", "\\n")}
    keys = PgpKeys.of(values)
    assert "PRIVATE" not in repr(keys)
    assert b"".join(keys.decrypt(cut(sealed(us, partner, b"x", armor=True)))) == b"x"


def test_what_goes_wrong_while_the_message_is_read_is_raised_as_it_is(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    def broken() -> Iterator[bytes]:
        yield sealed(us, partner, os.urandom(200_000))[:100_000]
        raise Transient("the connection broke")

    with pytest.raises(Transient, match="the connection broke"):
        b"".join(keys.decrypt(broken()))


def test_giving_up_in_the_middle_leaves_no_process(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    before = set(psutil.Process().children())
    plain = keys.decrypt(cut(sealed(us, partner, os.urandom(4_000_000))))
    next(plain)
    assert set(psutil.Process().children()) - before
    plain.close()  # type: ignore[attr-defined]
    assert not set(psutil.Process().children()) - before


def test_archives_in_messages_and_messages_in_archives_are_opened(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    message = sealed(us, partner, gzip.compress(b"x"), armor=True)
    for name, data in (("a.csv.gz.pgp", message), ("a.csv.gz.pgp.gz", gzip.compress(message))):
        opened = {inner: b"".join(body) for inner, body in unwrap(name, cut(data), Limits(), keys.decrypt)}
        assert opened == {"a.csv": b"x"}


def test_where_decryption_is_asked_for_nothing_in_the_clear_is_taken(keys: PgpKeys) -> None:
    for data in (b"MSH|", gzip.compress(b"MSH|"), b""):
        with pytest.raises(BadRecord, match="pgp-not-encrypted"):
            [b"".join(body) for _, body in unwrap("a", [data], Limits(), keys.decrypt)]


def test_a_message_where_no_key_was_named_is_refused(us: Tsk, partner: Tsk) -> None:
    for name, armor in (("a.hl7", True), ("a.hl7.pgp", False)):
        with pytest.raises(BadRecord, match="pgp-no-key"):
            [b"".join(body) for _, body in unwrap(name, [sealed(us, partner, b"x", armor)], Limits())]


def test_a_message_larger_than_allowed_is_refused(us: Tsk, partner: Tsk, keys: PgpKeys) -> None:
    with pytest.raises(BadRecord, match="pgp-too-large"):
        [
            b"".join(body)
            for _, body in unwrap(
                "a", cut(sealed(us, partner, bytes(os.urandom(50_000)))), Limits(pgp=20_000), keys.decrypt
            )
        ]
