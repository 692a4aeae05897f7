"""The Python that maps become, to be read: `python -m mappings.engine.written 'PID[Patient]' …`; all without a name."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from mappings.engine.codegen import identifier
from mappings.engine.compiled import Maps, compile_maps
from mappings.engine.errors import nearest
from mappings.engine.source import files


def written(maps: Maps, names: Sequence[str]) -> str:
    """Return the source of the functions of some maps, of all without any; raises `KeyError` for a map unknown."""
    functions = re.split(r"^(?=def )", maps.source, flags=re.MULTILINE)
    if not names:
        return maps.source
    for name in names:
        if name not in maps.units:
            raise KeyError(f"no map {name}{nearest(name, maps.units)}")
    wanted = "|".join(re.escape(identifier(name)) for name in names)
    mine = re.compile(rf"def (?:g_(?:{wanted})_\d+|(?:{wanted})(?:_plain)?)\(")
    return "".join(function for function in functions if mine.match(function))


if __name__ == "__main__":
    try:
        sys.stdout.write(written(compile_maps(files()), sys.argv[1:]).rstrip() + "\n")
    except KeyError as error:
        sys.exit(str(error.args[0]))
