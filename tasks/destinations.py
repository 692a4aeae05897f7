"""A destination's file, `deployments/destinations/<name>.yaml`: what kind it is and how it is reached."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mappings.engine.yamlfile import YamlFile, YamlMistake, nearest
from tasks import registry
from tasks.deliver.port import Destination
from tasks.errors import ConfigError
from tasks.settings import PROJECT, connection

PACKAGED = PROJECT / "deployments" / "destinations"


def destination_files() -> dict[str, Path]:
    """Return every destination's name and file: the project's own, or those in the folders of `SLUICE_DESTINATIONS`."""
    folders = [Path(part) for part in os.environ.get("SLUICE_DESTINATIONS", "").split(":") if part] or [PACKAGED]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def passes(name: str) -> bool:
    """Say whether a destination is sent records as they came; a name without a good file is not."""
    return _passes(name, os.environ.get("SLUICE_DESTINATIONS"))


@lru_cache(maxsize=256)
def _passes(name: str, _folders: str | None) -> bool:
    try:
        return bool(read(name)[1].send == "pass")
    except ConfigError:
        return False


def open_destination(name: str) -> Destination:
    """Return the destination of that name, or of a path to its file; raises `ConfigError` with every mistake in it."""
    kind, options = read(name)
    made: Destination = kind(options, connection(options.connection))
    return made


def read(name: str) -> tuple[Any, Any]:
    """Return a destination's class and its checked options."""
    path = Path(name) if name.endswith((".yaml", ".yml")) or "/" in name else destination_files().get(name)
    if path is None:
        raise ConfigError(f"destination {name}: there is no such file{nearest(name, destination_files())}")
    try:
        file = YamlFile(path)
    except YamlMistake as error:
        raise ConfigError(str(error)) from None
    except OSError as error:
        raise ConfigError(f"{path.name}: it cannot be read ({error.strerror})") from None
    try:
        kind = registry.find("destinations", str(file.data.get("kind")))
        return kind, kind.Options(**file.data)
    except ConfigError as error:
        raise ConfigError(file.mistake(["kind"], str(error))) from None
    except ValidationError as error:
        problems = tuple(_explain(file, kind, item) for item in error.errors(include_input=False, include_url=False))
        raise ConfigError(problems[0], problems) from None


def _explain(file: YamlFile, kind: Any, item: Any) -> str:
    path = item["loc"]
    if item["type"] == "extra_forbidden":
        return file.mistake(path, f"`{path[-1]}` is not a key here{nearest(str(path[-1]), kind.Options.model_fields)}")
    where = f"`{'.'.join(map(str, path))}`: " if path else ""
    return file.mistake(path, where + item["msg"].removeprefix("Value error, "))
