"""The migrations are one line: two that follow the same one would leave every site without a way forward."""

from __future__ import annotations

from collections import Counter

from alembic.config import Config
from alembic.script import ScriptDirectory

from infra.migrations import HERE


def test_there_is_one_head_and_no_revision_twice() -> None:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    script = ScriptDirectory.from_config(config)
    assert len(script.get_heads()) == 1
    files = [path.name.partition("_")[0] for path in (HERE / "versions").glob("[0-9]*.py")]
    assert [number for number, times in Counter(files).items() if times > 1] == []
    assert len(list(script.walk_revisions())) == len(files)
