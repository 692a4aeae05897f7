"""Connections that are kept as Prefect secret blocks: `sluice-connection-<name>`, a JSON object of strings."""

from __future__ import annotations

import json
import os

from prefect.blocks.system import Secret

from tasks.destinations import read
from tasks.feed import Feed
from tasks.settings import connection_variable, environment


def use_blocks(feed: Feed) -> None:
    """Bring the connections that a feed and its destinations name from Prefect, where the environment has none."""
    names = [feed.source.connection, *(read(name)[1].connection for name in feed.destinations)]
    for name in names:
        if name is not None:
            use_block(name)


def use_block(name: str) -> None:
    """Bring one connection from its block into this process; nothing happens where there is no block."""
    variable = connection_variable(name)
    if variable in environment():
        return
    try:
        block = Secret.load(f"sluice-connection-{name.replace('.', '-').replace('_', '-').lower()}")
    except ValueError:
        return
    assert isinstance(block, Secret)  # noqa: S101
    value = block.get()
    os.environ[variable] = value if isinstance(value, str) else json.dumps(value)
