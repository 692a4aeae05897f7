"""What can be said of a feed file without running it: its form, its mapping, its checks, its destinations."""

from __future__ import annotations

from collections.abc import Callable

from tasks.destinations import read as read_destination
from tasks.errors import ConfigError
from tasks.feed import Feed, load
from tasks.gate.gate import read_checks
from tasks.pipeline import Pipeline


def check_feed(name: str) -> list[str]:
    """Return every mistake of a feed, one line each, with file and line; empty where it is good."""
    try:
        feed = load(name)
    except ConfigError as error:
        return list(error.problems)
    steps: list[Callable[[Feed], object]] = [
        lambda feed: Pipeline(feed.profile, feed.format, feed.route),
        lambda feed: feed.checks and read_checks(feed.checks),
        *(lambda _feed, to=to: read_destination(to) for to in feed.destinations),
    ]
    problems: list[str] = []
    for step in steps:
        try:
            step(feed)
        except ConfigError as error:
            problems += [f"{feed.name}.yaml: {problem}" for problem in error.problems]
    return problems
