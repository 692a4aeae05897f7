"""What can be said of a feed file without running it: its form, its mapping, its checks, its destinations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from mappings.engine.yamlfile import YamlFile, nearest
from tasks.destinations import destination_files
from tasks.destinations import read as read_destination
from tasks.errors import ConfigError
from tasks.feed import Feed, find, load
from tasks.gate.gate import read_checks
from tasks.pipeline import Pipeline
from tasks.route.rules import RouteMistake
from tasks.settings import connection
from tasks.source.fhir_rest import FhirRestOptions
from tasks.validate.structure import structure


def check_feed(name: str) -> list[str]:
    """Return every mistake of a feed, one line each, with file and line; empty where it is good."""
    try:
        feed = load(name)
    except ConfigError as error:
        return list(error.problems)
    steps: list[Callable[[Feed], object]] = [
        lambda feed: Pipeline(feed.profile, feed.format, feed.route, feed.enrich),
        lambda feed: feed.checks and read_checks(feed.checks),
        *(lambda _feed, to=to: read_destination(to) for to in feed.destinations),
        _polled_server,
    ]
    problems: list[str] = []
    for step in steps:
        try:
            step(feed)
        except RouteMistake as error:
            file = YamlFile(find(name))
            problems += [
                file.mistake(("route", rule, "when"), text)
                for rule, text in zip(error.rules, error.problems, strict=True)
            ]
        except ConfigError as error:
            problems += [f"{feed.name}.yaml: {problem}" for problem in error.problems]
    return problems


def _polled_server(feed: Feed) -> None:
    """Raise `ConfigError` for what of a polled server does not fit FHIR, its destinations or its listener."""
    if not isinstance(feed.source, FhirRestOptions):
        return
    known = structure(feed.fhir_version).resources
    problems = [
        f"`source.types`: {kind} is no resource type of FHIR {feed.fhir_version}{nearest(kind, known)}"
        for kind in feed.source.types
        if kind not in known
    ]
    problems += [*_peer(feed, feed.source), *_endpoint(feed, feed.source)]
    if problems:
        raise ConfigError(problems[0], tuple(problems))


def _peer(feed: Feed, source: FhirRestOptions) -> Iterator[str]:
    """Say what is wrong with the destination that is the same server, and which one is and is not named."""
    if source.peer and source.peer not in destination_files():
        yield f"`source.peer`: {source.peer} is not a destination{nearest(source.peer, destination_files())}"
        return
    for name in destination_files():
        _, options = read_destination(name)
        if options.kind != "fhir":
            if name == source.peer:
                yield f"`source.peer`: {name} is a destination of kind {options.kind}, and a FHIR server is needed"
            continue
        same = _address(options) == _address(source) and _address(source)
        if same and name != source.peer:
            yield (
                f"`source.peer`: the destination {name} is the same server; write `peer: {name}`,"
                " or what Sluice writes there comes back as news"
            )
        if name == source.peer and not same and None not in (_address(options), _address(source)):
            yield f"`source.peer`: {name} writes to another address than this feed reads from"


def _address(options: Any) -> str | None:
    """Return where a server is, as far as it is known here: connections may be known in production alone."""
    url = options.base_url
    if url is None and options.connection:
        with suppress(ConfigError):
            url = connection(options.connection).get("base_url")
    return str(url).rstrip("/") if url else None


def _endpoint(feed: Feed, source: FhirRestOptions) -> Iterator[str]:
    if source.subscribe and not source.subscribe.endpoint.rstrip("/").endswith(f"/{feed.name}/notify"):
        yield f"`source.subscribe.endpoint`: the listener takes this feed's notifications at …/{feed.name}/notify"
