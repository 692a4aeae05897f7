"""The views of the warehouse, compiled once: every file of `mappings/views`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache

from mappings.engine.views import View, compile_view
from tasks.settings import PROJECT

FOLDER = PROJECT / "mappings" / "views"


@lru_cache(maxsize=1)
def core_views() -> Mapping[str, View]:
    """Return the compiled views by name."""
    return {path.stem: compile_view(json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))}
