"""Numbers keep the digits of the sender, within what stores and servers take."""

from __future__ import annotations

import pytest

from mappings.engine.primitives import number


@pytest.mark.parametrize("text", ["1e301", "-9E+999", "1e-301", "." + "0" * 301 + "1", "1" * 302])
def test_a_number_of_no_magnitude_that_is_kept_is_none(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize("text", ["1E+300", "-5.10", "0", "0.000", "1e-300", "9" * 301])
def test_other_numbers_keep_their_digits(text: str) -> None:
    assert number(text) is not None
    assert len(str(number(text))) >= len(text)
