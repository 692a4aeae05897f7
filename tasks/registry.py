"""What is registered as an entry point: sources, formats, converters, destinations; a site's own among them."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from mappings.engine.yamlfile import nearest
from tasks.errors import ConfigError


def names(group: str) -> list[str]:
    """Return the words registered under `sluice.<group>`, sorted."""
    return sorted({point.name for point in entry_points(group=f"sluice.{group}")})


@lru_cache(maxsize=256)
def find(group: str, name: str) -> Any:
    """Return what is registered under `sluice.<group>` as `name`.

    Raises `ConfigError` with the nearest valid word, or with the module that could not be imported.
    """
    points = entry_points(group=f"sluice.{group}", name=name)
    if not points:
        raise ConfigError(f"{name} is not among the {group}{nearest(name, names(group))}")
    try:
        return next(iter(points)).load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{group}: {name} cannot be loaded: {error}") from None
