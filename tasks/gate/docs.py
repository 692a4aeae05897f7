"""great-expectations' Data Docs of what the gate said of a feed's batches, written from the stored verdicts.

A verdict holds what was asked and whether it held, nothing of a record: so the pages cannot show a value either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlparse

from tasks.errors import ConfigError
from tasks.feed import Feed
from tasks.gate import docs_offline
from tasks.gate.gate import great_expectations
from tasks.ledger.db import Connection

VERDICTS = """
select id, created_at, verdict->'results' from ledger.batch
where feed = %s and jsonb_array_length(verdict->'results') > 0 order by id desc limit %s
"""
NO_VALUE = "BOOLEAN_ONLY"
DESCRIBED = "expect_table_row_count_to_be_between"
"""What great-expectations takes without arguments: it carries the text of a check that the library does not know."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the gate said of one table of one batch; `results` are those of the stored verdict."""

    batch: int
    at: datetime
    table: str
    results: list[dict[str, Any]]

    @property
    def held(self) -> int:
        """How many of its checks held."""
        return sum(1 for item in self.results if item["held"])


def write(connection: Connection, feed: Feed, folder: Path, last: int) -> list[dict[str, Any]]:
    """Write the Data Docs of a feed's newest batches into a folder; return its pages, one a batch and table.

    Raises `ConfigError` where the folder holds something, or the gate has looked at nothing of the feed yet.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is not an empty folder; name one that does not exist yet")
    said = list(_verdicts(connection, feed.name, last))
    if not said:
        raise ConfigError(f"{feed.name}: the gate has looked at none of its batches yet; they are there after a run")
    return _Site(feed.name, folder).build(said)


def _verdicts(connection: Connection, feed: str, last: int) -> Iterable[Said]:
    for batch, at, results in connection.execute(VERDICTS, (feed, last)).fetchall():
        by_table = sorted(results, key=itemgetter("table"))
        for table, items in groupby(by_table, key=itemgetter("table")):
            yield Said(batch, at, table, list(items))


class _Site:
    """The pages of one feed, built by great-expectations in memory and written to one folder."""

    def __init__(self, feed: str, folder: Path) -> None:
        self._feed, self._folder = feed, folder.absolute()
        self._context = great_expectations().get_context(mode="ephemeral")
        for known in list(self._context.variables.data_docs_sites):
            self._context.delete_data_docs_site(known)
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(self._folder)}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        config = {"class_name": "SiteBuilder", "show_how_to_buttons": False}
        self._context.add_data_docs_site(feed, {**config, "store_backend": store, "site_index_builder": index})

    def build(self, said: Iterable[Said]) -> list[dict[str, Any]]:
        """Write all pages; return where each is."""
        keys = [(one, self._add(one)) for one in said]
        self._context.build_data_docs()
        pages = [
            {
                "batch": one.batch,
                "table": one.table,
                "held": one.held,
                "failed": len(one.results) - one.held,
                "page": self._context.get_docs_sites_urls(key)[0]["site_url"],
            }
            for one, key in keys
        ]
        docs_offline.whole(self._folder)
        listed = zip(pages, keys, strict=True)
        docs_offline.index(
            self._folder,
            self._feed,
            [{**page, "at": f"{one.at:%Y-%m-%d %H:%M}", "to": self._way(page["page"])} for page, (one, _) in listed],
        )
        return pages

    def _way(self, address: str) -> str:
        """Return the way from the index to a page."""
        return quote(Path(unquote(urlparse(address).path)).relative_to(self._folder).as_posix())

    def _add(self, said: Said) -> Any:
        from great_expectations.core import ExpectationSuiteValidationResult, RunIdentifier
        from great_expectations.data_context.types.resource_identifiers import (
            ExpectationSuiteIdentifier,
            ValidationResultIdentifier,
        )

        suite = f"{self._feed}.{said.table}"
        run = RunIdentifier(f"batch {said.batch}", said.at)
        key = ValidationResultIdentifier(ExpectationSuiteIdentifier(suite), run, f"batch {said.batch}")
        result = ExpectationSuiteValidationResult(
            success=said.held == len(said.results),
            results=[_validated(item) for item in said.results],
            suite_name=suite,
            suite_parameters={},
            statistics=_statistics(said),
            meta={"run_id": run, "result_format": NO_VALUE, "active_batch_definition": {"data_asset_name": said.table}},
        )
        self._context.validation_results_store.set(key, result)
        return key


def _statistics(said: Said) -> dict[str, Any]:
    number = len(said.results)
    return {
        "evaluated_expectations": number,
        "successful_expectations": said.held,
        "unsuccessful_expectations": number - said.held,
        "success_percent": 100 * said.held / number,
    }


def _validated(item: dict[str, Any]) -> Any:
    """Return one check as great-expectations' own result, without anything that was observed."""
    from great_expectations.core import ExpectationValidationResult

    return ExpectationValidationResult(success=item["held"], expectation_config=_config(item), result={}, meta={})


def _config(item: dict[str, Any]) -> Any:
    """Return a check as great-expectations words it, or in our words where it cannot: the gate's own, older ones."""
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    meta = {"notes": {"format": "string", "content": [item["severity"]]}}
    asked = item.get("asked") or ({"column": item["place"]} if item["place"] else {})
    config = ExpectationConfiguration(item["expectation"], dict(asked), meta=meta)
    try:
        config.to_domain_obj()
    except (ExpectationNotFoundError, ValueError):
        words = f"{item['place']} {item['expectation']}".strip()
        return ExpectationConfiguration(DESCRIBED, {}, meta=meta, description=words)
    return config
