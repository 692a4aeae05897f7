"""Derives `elements.json` from fhir.resources: which element of which type has which type, and whether it repeats.

Run as `python -m mappings.engine.views.generate` when FHIR's definitions move on. The definitions are those of R4B,
which has the elements of R4 under the same names.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

ELEMENTS = Path(__file__).with_name("elements.json")
_NAMES = {"encodedBytes": "base64Binary", "uuidVersion": "uuid"}
_PRIMITIVE = re.compile(r"Annotated\[[^,]+, (\w+)\(")
_COMPLEX = re.compile(r"\b([A-Z]\w*)Type\b")


def element_table() -> dict[str, dict[str, str]]:
    """Return type → element → type, with `*` behind the type of an element that repeats.

    A choice is listed by its stem with all its types: `value: Quantity|string`.
    """
    from fhir.resources import R4B
    from fhir_core.fhirabstractmodel import FHIRAbstractModel

    found: dict[str, dict[str, str]] = {}
    for module in pkgutil.iter_modules(R4B.__path__):
        if module.name == "tests" or module.ispkg:
            continue
        for name, model in vars(importlib.import_module(f"{R4B.__name__}.{module.name}")).items():
            if isinstance(model, type) and issubclass(model, FHIRAbstractModel) and model is not FHIRAbstractModel:
                found[name] = _elements(model)
    return dict(sorted(found.items()))


def _elements(model: Any) -> dict[str, str]:
    elements: dict[str, str] = {}
    for field in model.model_fields.values():
        extra = field.json_schema_extra or {}
        if not extra.get("element_property"):
            continue
        type_name = _type(repr(field.annotation))
        stem = extra.get("one_of_many") or field.alias
        elements[stem] = f"{elements[stem]}|{type_name}" if stem in elements else type_name
    return elements


def _type(annotation: str) -> str:
    many = "*" if "List[" in annotation else ""
    if match := _COMPLEX.search(annotation):
        return match[1] + many
    if match := _PRIMITIVE.search(annotation):
        name = match[1][0].lower() + match[1][1:]
        return _NAMES.get(name, name) + many
    return ("boolean" if "bool" in annotation else "url") + many


def main() -> None:
    """Write the table beside this module, one type a line."""
    lines = (f"{json.dumps(name)}: {json.dumps(elements)}" for name, elements in element_table().items())
    ELEMENTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
