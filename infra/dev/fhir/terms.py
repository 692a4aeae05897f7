"""What a resource can be found by, as digests of (type, parameter, form).

Forms of a token (R4 Search 2.1.1.10): the value alone, system and value, the system alone. Forms of a reference:
`Type/id`, the id alone, or the URL. A digest has one length whatever the value's, so it always fits an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

from infra.dev.fhir.definitions import COMPARTMENT, PATIENT_ELEMENTS, WITH_CODE, WITH_IDENTIFIER, WITH_SUBJECT

ANY = "*"
_RELATIVE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9.\-]{1,64})(?:/_history/[^/]+)?$")


def term(*parts: str) -> str:
    """Return the digest of `parts` as 32 hexadecimal digits, which Postgres reads as a uuid."""
    return blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def token_forms(system: Any, value: Any) -> Iterator[tuple[str, ...]]:
    """Yield the forms under which a token of an absent or given `system` and `value` is found.

    What is no text is not found: a seeded resource may violate its schema.
    """
    has_system = isinstance(system, str)
    if isinstance(value, str):
        yield "value", value
        yield "system", system if has_system else "", value
    if has_system:
        yield "in", system


def local(reference: str, base: str) -> str:
    """Return `reference` as `Type/id` where it is one on this server (R4 References 2.3.0.1), else as it is."""
    rest = reference.removeprefix(base + "/")
    match = _RELATIVE.match(rest)
    return f"{match[1]}/{match[2]}" if match else reference


def at(value: Any, path: str) -> Iterator[Any]:
    """Yield what stands at dotted `path`, through lists."""
    head, _, rest = path.partition(".")
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, dict) and head in item:
            if rest:
                yield from at(item[head], rest)
            else:
                yield from item[head] if isinstance(item[head], list) else (item[head],)


def references(resource: dict[str, Any], paths: Iterable[str], base: str) -> set[str]:
    """Return the references at `paths`, local ones as `Type/id`."""
    found = (item.get("reference") for path in paths for item in at(resource, path) if isinstance(item, dict))
    return {local(reference, base) for reference in found if isinstance(reference, str)}


def terms(resource: dict[str, Any], base: str) -> set[str]:
    """Return every term of `resource`; absolute references under `base` count as local ones."""
    kind = resource["resourceType"]
    found = {term(kind, *parts) for parts in (*_tokens(kind, resource), *_links(kind, resource, base))}
    return found | {compartment(member) for member in _members(kind, resource, base)}


def compartment(patient: str = ANY) -> str:
    """Return the term of what is in the compartment of `patient` (`Patient/id`), or of any patient."""
    return term("_compartment", patient)


def _tokens(kind: str, resource: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if kind in WITH_IDENTIFIER:
        for item in at(resource, "identifier"):
            if isinstance(item, dict):
                yield from (("identifier", *form) for form in token_forms(item.get("system"), item.get("value")))
    if kind in WITH_CODE:
        for item in at(resource, "code.coding"):
            if isinstance(item, dict):
                yield from (("code", *form) for form in token_forms(item.get("system"), item.get("code")))


def _links(kind: str, resource: dict[str, Any], base: str) -> Iterator[tuple[str, ...]]:
    if kind in WITH_SUBJECT:
        for reference in references(resource, ("subject",), base):
            yield "subject", reference
            if _RELATIVE.match(reference):
                yield "subject", "id", reference.rpartition("/")[2]
    for reference in references(resource, PATIENT_ELEMENTS.get(kind, ()), base):
        if reference.startswith("Patient/"):
            yield "patient", reference


def _members(kind: str, resource: dict[str, Any], base: str) -> Iterator[str]:
    members = {r for r in references(resource, COMPARTMENT.get(kind, ()), base) if r.startswith("Patient/")}
    if kind == "Patient":
        members.add(f"Patient/{resource['id']}")
    yield from members
    if members:
        yield ANY
