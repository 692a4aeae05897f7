"""A site's own mapping functions: modules registered under the entry point group `sluice.functions`."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from mappings.engine.errors import MappingError


@cache
def load_functions() -> None:
    """Import every registered module once, for what its decorators register; raises `MappingError`."""
    for point in entry_points(group="sluice.functions"):
        try:
            point.load()
        except (ImportError, AttributeError) as error:
            raise MappingError(f"functions: {point.name} cannot be loaded: {error}") from None
