"""A warehouse that explains itself: nothing without a comment, and a dictionary that says what is there."""

from __future__ import annotations

from pathlib import Path

from tasks.ledger.db import connect
from tasks.publish.dictionary import dictionary, undescribed

PAGE = Path(__file__).parents[3] / "docs" / "data-dictionary.md"


def test_every_table_and_every_column_has_a_comment(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection:
        assert undescribed(connection) == []
        connection.execute("create table mart.silent (a int)")
        assert undescribed(connection) == ["mart.silent", "mart.silent.a"]


def test_the_data_dictionary_in_the_docs_is_what_the_warehouse_says(warehouse_url: str) -> None:
    with connect(warehouse_url) as connection:
        made = dictionary(connection)
    assert PAGE.read_text(encoding="utf-8") == made, "run `sluice views dictionary --out docs/data-dictionary.md`"
