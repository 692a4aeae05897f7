"""The views of the warehouse, compiled once: every file of `mappings/views`, and a site's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from mappings.engine.json import loads
from mappings.engine.views import View, compile_view
from tasks.errors import ConfigError
from tasks.settings import PROJECT

FOLDER = PROJECT / "mappings" / "views"


def view_files() -> dict[str, Path]:
    """Return every view's name and file: the project's own, and those in the folders of `SLUICE_VIEWS`.

    Raises `ConfigError` for a folder that is not there, and for a file of a name that another one has.
    """
    found: dict[str, Path] = {}
    for folder in [FOLDER, *(Path(part) for part in os.environ.get("SLUICE_VIEWS", "").split(":") if part)]:
        if not folder.is_dir():
            raise ConfigError(f"SLUICE_VIEWS: {folder} is no folder")
        for path in sorted(folder.glob("*.json")):
            if path.stem in found:
                raise ConfigError(f"{path}: there is a view of that name already ({found[path.stem]}); rename it")
            found[path.stem] = path
    return found


def read_view(path: Path) -> View:
    """Compile a file; raises `ConfigError` with the file and the place in it."""
    try:
        return compile_view(loads(path.read_bytes()))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


@lru_cache(maxsize=1)
def core_views() -> Mapping[str, View]:
    """Return the compiled views by name; raises `ConfigError` for one that is none, or has not its file's name."""
    views = {name: read_view(path) for name, path in view_files().items()}
    for name, view in views.items():
        if view.name != name:
            raise ConfigError(f"{view_files()[name]}: name: {view.name!r} is not the file's; call the file as the view")
    return views
