"""Runs as OpenLineage events: what a run read and wrote, how much, and from which elements columns are made.

Off unless `SLUICE_OPENLINEAGE` says where they go. Names, ids and counts alone: no value, and no address of a partner.
An event that cannot be sent is noted in the log and stops nothing. Source: OpenLineage specification 2.0.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mappings.engine.views.origins import origins
from tasks.core_views import core_views
from tasks.ledger import counts
from tasks.ledger.db import Connection
from tasks.log import get_logger
from tasks.settings import openlineage, settings

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

NAMESPACE = "sluice"
PRODUCER = "urn:sluice"

MADE = """
with part as (
    select s.delivery_id::bigint << 32 | s.first_ordinal as low, s.delivery_id::bigint << 32 | s.last_ordinal as high
    from ledger.batch_slice s join ledger.batch b on b.id = s.batch_id where b.run_id = %(run)s
    union
    select s.delivery_id::bigint << 32 | s.first_ordinal, s.delivery_id::bigint << 32 | s.last_ordinal
    from ledger.batch_slice s join ledger.batch b on b.id = s.batch_id where b.published_by = %(run)s
)
select r.resource_type, count(distinct r.id) from part
join fhir.resource r on r.record_id between part.low and part.high
group by 1 order by 1
"""


@dataclass(slots=True)
class Told:
    """What a run has to tell at its end.

    - `inputs` are (namespace, name, records, deliveries or None).
    - `types` counts resources in the warehouse, `destinations` versions that were sent, `outcomes` records.
    - `wanted` is False where events are switched off: nothing needs to be asked for them.
    """

    inputs: list[tuple[str, str, int, int | None]] = field(default_factory=list)
    types: Mapping[str, int] = field(default_factory=dict)
    destinations: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    wanted: bool = True


@contextmanager
def run_events(job: str, run_id: str) -> Iterator[Told]:
    """Tell of a run's start and of its end: complete with what the block put into `Told`, or failed."""
    told = Told(wanted=bool(run_id) and openlineage() is not None)
    if not told.wanted:
        yield told
        return
    _emit(job, run_id, "START", Told())
    try:
        yield told
    except BaseException:
        _emit(job, run_id, "FAIL", told)
        raise
    _emit(job, run_id, "COMPLETE", told)


def of_feed(told: Told, connection: Connection, feed: str, run_id: str) -> None:
    """Put into `told` what a run of a feed read and published, asked of the ledger."""
    sums = counts.total(counts.of_run(connection, run_id))
    partner, _, name = feed.partition(".")
    deliveries = sums.pop("deliveries")
    rows = connection.execute(MADE, {"run": run_id}).fetchall()
    told.inputs.append((f"sluice://partner/{partner}", name, sums["received"], deliveries))
    told.types = {str(kind): int(number) for kind, number in rows}
    told.outcomes = sums


def _emit(job: str, run_id: str, state: str, told: Told) -> None:
    try:
        _client().emit(_event(job, run_id, state, told))
    except (OSError, RuntimeError) as error:
        # requests' errors are OSErrors; their texts hold addresses, and a lineage server is no reason to fail
        get_logger(job=job, run=run_id).warning("a lineage event was not sent", state=state, error=type(error).__name__)


def _client() -> Any:
    from openlineage.client import OpenLineageClient

    target, key = openlineage() or ("", None)
    if target.startswith("file:"):
        config: dict[str, Any] = {"type": "file", "log_file_path": target.removeprefix("file:"), "append": True}
    else:
        config = {"type": "http", "url": target, "timeout": 5, "retry": {"total": 1}}
        if key:
            config["auth"] = {"type": "api_key", "api_key": key}
    return OpenLineageClient(config={"transport": config})


def _event(job: str, run_id: str, state: str, told: Told) -> RunEvent:
    from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

    return RunEvent(
        eventType=RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=Run(runId=run_id, facets=_run_facets(told)),
        job=Job(namespace=NAMESPACE, name=job),
        inputs=[_input(*one) for one in told.inputs],
        outputs=[*_warehouse(told), *_destinations(told)],
        producer=PRODUCER,
    )


def _run_facets(told: Told) -> dict[str, Any]:
    """The engine, and the ledger's counts as tags: the specification's own place for what has no facet."""
    from openlineage.client.facet_v2 import processing_engine_run, tags_run

    tags = [tags_run.TagsRunFacetFields(key=name, value=str(n), source="ledger") for name, n in told.outcomes.items()]
    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
            version=version("prefect"), name="Prefect", producer=PRODUCER
        )
    }
    return {**facets, "tags": tags_run.TagsRunFacet(tags=tags, producer=PRODUCER)} if tags else facets


def _input(namespace: str, name: str, records: int, deliveries: int | None) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset as statistics

    counted = statistics.InputStatisticsInputDatasetFacet(rowCount=records, fileCount=deliveries, producer=PRODUCER)
    return InputDataset(namespace=namespace, name=name, inputFacets={"inputStatistics": counted})


def _warehouse(told: Told) -> Iterator[OutputDataset]:
    """The store's types that the run touched, and the tables that are made of them, with their columns' origins."""
    if told.types:
        namespace, database = warehouse()
        for kind, number in told.types.items():
            yield _output(namespace, f"{database}.fhir.{kind}", number)
        for name, view in core_views().items():
            if view.resource in told.types:
                facets = {"columnLineage": column_lineage(name)}
                yield _output(namespace, f"{database}.core.{name}", None, facets)


def _destinations(told: Told) -> Iterator[OutputDataset]:
    for name, number in told.destinations.items():
        yield _output("sluice://destination", name, number)


def _output(namespace: str, name: str, rows: int | None, facets: dict[str, Any] | None = None) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

    counted: dict[str, Any] = {}
    if rows is not None:
        counted = {"outputStatistics": statistics.OutputStatisticsOutputDatasetFacet(rowCount=rows, producer=PRODUCER)}
    return OutputDataset(namespace=namespace, name=name, facets=facets or {}, outputFacets=counted)


@lru_cache(maxsize=256)
def column_lineage(view: str) -> Any:
    """Return the facet of a table of core: for every column the elements of the resource that it is made from."""
    from openlineage.client.facet_v2 import column_lineage_dataset as lineage

    namespace, database = warehouse()
    found = core_views()[view]
    fields = {}
    for column, made_from in origins(found).items():
        parts = [
            lineage.InputField(
                namespace=namespace,
                name=f"{database}.fhir.{found.resource}",
                field=one.path,
                transformations=[
                    lineage.Transformation(type="DIRECT", subtype="IDENTITY" if one.identity else "TRANSFORMATION")
                ],
            )
            for one in made_from
        ]
        if parts:
            fields[column] = lineage.Fields(inputFields=parts)
    return lineage.ColumnLineageDatasetFacet(fields=fields, producer=PRODUCER)


def warehouse() -> tuple[str, str]:
    """Return the namespace and the database by which OpenLineage names the warehouse; no user, no password."""
    url = urlsplit(settings().warehouse_url)
    return f"postgres://{url.hostname or 'localhost'}:{url.port or 5432}", url.path.lstrip("/") or "postgres"
