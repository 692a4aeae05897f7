"""The gate: great-expectations suites on a staged batch, before anybody can see it.

A checks file (`deployments/checks/<name>.yaml`) names a table of the warehouse, or `records`, and lists expectations
as great-expectations writes them. They look at the rows that the batch would publish. A critical expectation that
fails holds the batch; the others are counted. Results are booleans: no value leaves.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest
from tasks.core_views import core_views
from tasks.errors import ConfigError, Permanent
from tasks.failpoints import reached
from tasks.feed import Feed
from tasks.gate.window import RECORDS, Window, columns, of_batch
from tasks.ledger import batches, claims, snapshot
from tasks.ledger.apart import set_apart
from tasks.ledger.db import Connection
from tasks.log import get_logger
from tasks.settings import PROJECT

CHECKS = PROJECT / "deployments" / "checks"
SEVERITIES = ("critical", "warning", "info")


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation on one table."""

    table: str
    type: str
    kwargs: Mapping[str, Any]
    severity: str


@dataclass(frozen=True, slots=True)
class Result:
    """Whether an expectation held; `place` is the column, or empty for the table itself.

    - `asked` is what the checks file asked of it then, which it may not ask any more.
    """

    table: str
    expectation: str
    place: str
    severity: str
    held: bool
    asked: Mapping[str, Any] = field(default_factory=dict)


def read_checks(name: str) -> list[Check]:
    """Read a checks file; raises `ConfigError` with file and line for a mistake."""
    path = CHECKS / f"{name}.yaml"
    if not path.is_file():
        known = [file.stem for file in CHECKS.glob("*.yaml")]
        raise ConfigError(f"checks {name}: there is no {path.name}{nearest(name, known)}")
    try:
        file = YamlFile(path)
    except YamlMistake as error:
        raise ConfigError(str(error)) from None
    tables = [RECORDS, *core_views()]
    checks = []
    for table, items in file.data.items():
        if table not in tables:
            raise ConfigError(file.mistake([table], f"{table} is not a table{nearest(table, tables)}"))
        checks += [_check(file, table, number, item) for number, item in enumerate(items)]
    return checks


def _check(file: YamlFile, table: str, number: int, item: Any) -> Check:
    extra = set(item) - {"type", "kwargs", "severity"}
    if extra or "type" not in item:
        raise ConfigError(file.mistake([table, number], "an expectation has `type`, `kwargs` and `severity`"))
    severity = item.get("severity", "critical")
    if severity not in SEVERITIES:
        wrong = f"{severity} is no severity{nearest(severity, SEVERITIES)}"
        raise ConfigError(file.mistake([table, number, "severity"], wrong))
    kwargs = item.get("kwargs", {})
    try:
        json.dumps(kwargs, allow_nan=False)
    except (TypeError, ValueError):
        wrong = "an expectation's `kwargs` are texts, finite numbers and lists of them: no infinity, no NaN"
        raise ConfigError(file.mistake([table, number, "kwargs"], wrong)) from None
    return Check(table, item["type"], kwargs, severity)


def decide(
    connection: Connection, feed: Feed, batch_id: int, token: int, window: Window | None = None
) -> dict[str, Any]:
    """Check a staged batch and hold it where something critical fails; return the verdict, which has no value in it.

    A batch that an operator released is looked at all the same, and passes whatever is found. One of a full delivery
    `waits` until all of that is staged: only then is known what is missing; one of any delivery where the feed limits
    the share of bad records: only then is known how many there are. What is above that limit is held apart.

    Raises `Permanent` where the feed has no such batch: a server that crashes moments after its staging forgets it.
    """
    row = connection.execute("select verdict->'released', feed from ledger.batch where id = %s", (batch_id,)).fetchone()
    if row is None or row[1] != feed.name:
        raise Permanent(f"feed {feed.name}: batch {batch_id} was forgotten in a crash; run again, it is read anew")
    released = row[0]
    if snapshot.is_being_read(connection, batch_id, limited=feed.quarantine.hold_above_percent < 100):
        return {"passed": False, "waits": True, "results": []}
    if released is None:
        with connection.transaction():
            claims.check(connection, f"feed:{feed.name}", token)
            _hold_apart(connection, feed, batch_id)
    results = look(connection, feed, batch_id, window)
    verdict: dict[str, Any] = {"passed": passed(results) or released is not None}
    verdict["results"] = [asdict(result) for result in results]
    if released is not None:
        verdict["released"] = released
    with connection.transaction():
        claims.check(connection, f"feed:{feed.name}", token)
        batches.set_state(connection, batch_id, "staged" if verdict["passed"] else "held", verdict)
    reached("gated")
    return verdict


def look(connection: Connection, feed: Feed, batch_id: int, window: Window | None = None) -> list[Result]:
    """Return what every check of the feed says of a staged batch, the share of quarantined records first.

    With a `window` the checks look at what the feed published in it as well: a batch of few messages alone says nothing
    about shares and counts.
    """
    above, _ = _above_limit(connection, feed, batch_id)
    results = [_quarantined_share(within=not above), *_share_of_vanished(connection, feed, batch_id)]
    if feed.checks is None:
        return results
    checks = read_checks(feed.checks)
    for table in dict.fromkeys(check.table for check in checks):
        own = [check for check in checks if check.table == table]
        results += _validate(table, _frame(connection, batch_id, table, window), own)
    return results


def open_window(connection: Connection, feed: Feed, seconds: float) -> Window:
    """Return the window of a feed's checks, filled with what was published in the last `seconds`."""
    tables = dict.fromkeys(check.table for check in read_checks(feed.checks)) if feed.checks else ()
    if feed.checks:
        # its import takes seconds: not those of the first batch
        great_expectations()
    return Window(connection, feed.name, tables, seconds)


def passed(results: Iterable[Result]) -> bool:
    """Say whether nothing critical failed."""
    return all(result.held or result.severity != "critical" for result in results)


SHARES = """
select delivery_id, 100.0 * sum(quarantined) / sum(received)
from ledger.batch_slice where delivery_id in (
    select delivery_id from ledger.batch_slice
    where batch_id = %s and received > quarantined + duplicate + filtered + discarded
) group by delivery_id
"""
"""How much of each delivery, of which the batch has something to publish, is in quarantine; of a listener's segment,
as far as it has been read."""


def _above_limit(connection: Connection, feed: Feed, batch_id: int) -> tuple[list[int], int]:
    """Return the batch's deliveries of which too much is in quarantine, and how many others it has."""
    rows = connection.execute(SHARES, (batch_id,)).fetchall()
    above = [int(row[0]) for row in rows if float(row[1]) > feed.quarantine.hold_above_percent]
    return above, len(rows) - len(above)


def _quarantined_share(*, within: bool) -> Result:
    return Result(RECORDS, "quarantined share is within the feed's limit", "", "critical", within)


def _hold_apart(connection: Connection, feed: Feed, batch_id: int) -> None:
    """Hold deliveries with too many bad records in a batch of their own, so that no neighbour is held with them."""
    above, others = _above_limit(connection, feed, batch_id)
    if above and others:
        rows = connection.execute(
            "select id from ledger.record where batch_id = %s and state is null and id >> 32 = any(%s) order by id",
            (batch_id, above),
        ).fetchall()
        verdict = {"passed": False, "results": [asdict(_quarantined_share(within=False))]}
        apart = set_apart(connection, batch_id, [int(row[0]) for row in rows], "held", verdict)
        get_logger(feed=feed.name, batch=apart).info("gate", passed=False)


def _share_of_vanished(connection: Connection, feed: Feed, batch_id: int) -> list[Result]:
    """Look at what a full delivery, of which the batch has a part, no longer holds."""
    most = snapshot.vanished_percent(connection, batch_id)
    if most is None:
        return []
    held = most <= feed.vanished.hold_above_percent
    return [Result(RECORDS, "vanished share is within the feed's limit", "", "critical", held)]


def _frame(connection: Connection, batch_id: int, table: str, window: Window | None) -> Any:
    """Return the rows that the batch would add to a table, those of the window among them, as a pandas frame."""
    import pandas as pd

    found = of_batch(connection, batch_id, table)
    rows = window.around(table, found) if window else chain.from_iterable(found.values())
    return pd.DataFrame(rows, columns=columns(table))


def great_expectations() -> Any:
    """Return the library, imported when it is needed: that takes seconds."""
    # statistics about use are not sent from a hospital
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as library

    return library


def _validate(table: str, frame: Any, checks: list[Check]) -> list[Result]:
    """Run the expectations; one that cannot be evaluated (a column that is not there) did not hold."""
    gx = great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("staging").add_dataframe_asset(table)
    batch = asset.add_batch_definition_whole_dataframe("batch").get_batch({"dataframe": frame})
    expectations = [
        ExpectationConfiguration(check.type, dict(check.kwargs), meta={"number": number})
        for number, check in enumerate(checks)
    ]
    outcome = batch.validate(gx.ExpectationSuite(table, expectations), result_format="BOOLEAN_ONLY")
    configs = [(said.expectation_config, said.success) for said in outcome.results]
    held = {config.meta["number"]: bool(success) for config, success in configs if config and config.meta}
    return [
        Result(
            table,
            check.type,
            str(check.kwargs.get("column", "")),
            check.severity,
            held.get(number, False),
            dict(check.kwargs),
        )
        for number, check in enumerate(checks)
    ]
