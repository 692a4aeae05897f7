"""What counts as a difference of two resources."""

from decimal import Decimal
from typing import Any

import pytest

from tasks.replay.difference import difference


@pytest.mark.parametrize(
    ("before", "after"),
    [(139, Decimal("139")), (Decimal("5.10"), Decimal("5.10")), (True, True), ("1", "1"), (None, None)],
)
def test_the_same_digits_are_no_difference_however_they_were_read(before: Any, after: Any) -> None:
    assert list(difference({"value": before}, {"value": after})) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [(Decimal("5.10"), Decimal("5.1")), (139, Decimal("139.0")), (1, True), (1, "1"), (0, None), ([], {}), ("", None)],
)
def test_other_digits_and_other_kinds_of_values_are_one(before: Any, after: Any) -> None:
    assert list(difference({"value": before}, {"value": after})) == [("value", "changed")]
