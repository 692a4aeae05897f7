"""A site's own views, in folders beside the project's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mappings.engine.views import ViewError, compile_view
from tasks.core_views import core_views, view_files
from tasks.errors import ConfigError
from tasks.publish.view_table import ViewTable


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    monkeypatch.setenv("SLUICE_VIEWS", str(tmp_path))
    core_views.cache_clear()

    def write(file: str, **more: Any) -> None:
        select = [{"column": [{"name": "id", "path": "id"}]}]
        text = {"resourceType": "ViewDefinition", "resource": "Patient", "name": file, "select": select, **more}
        (tmp_path / f"{file}.json").write_text(json.dumps(text))

    yield write
    core_views.cache_clear()


def test_a_sites_view_stands_beside_the_projects(own: Callable[..., None]) -> None:
    own("ward_list")
    assert {"ward_list", "patient"} <= core_views().keys()
    assert [column.name for column in core_views()["ward_list"].columns] == ["id"]


@pytest.mark.parametrize(
    ("file", "more", "said"),
    [
        ("patient", {}, "there is a view of that name already"),
        ("wards", {"name": "ward"}, "'ward' is not the file's"),
        ("wards", {"select": []}, r"wards\.json: select"),
    ],
)
def test_a_mistake_in_one_names_its_file(own: Callable[..., None], file: str, more: Any, said: str) -> None:
    own(file, **more)
    with pytest.raises(ConfigError, match=said):
        core_views()


def test_a_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_VIEWS", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="none is no folder"):
        view_files()


def test_a_columns_name_that_postgres_would_cut_is_told_with_its_place() -> None:
    select = [{"column": [{"name": "a" * 64, "path": "id"}]}]
    with pytest.raises(ViewError, match=r"select\[0\]\.column\[0\]\.name"):
        ViewTable(compile_view({"resource": "Patient", "name": "v", "select": select}))
