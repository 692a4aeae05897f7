"""A first mapping file from a CSV sample: declared columns, and what their names make one think of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deployments.drafting.columns import Look, Sample
from deployments.drafting.words import CLASSES, ROLES, SEXES, STATUS, plain

GUESS = "# guess:"
_PATIENT = ("mrn", "family", "given", "birth", "sex", "phone", "email", "street", "city", "state", "zip")


def mapping(sample: Sample, file_name: str) -> str:
    """Return the text of a mapping file that can be loaded as it is."""
    roles = _roles(sample)
    keys = [column.name for column in sample.columns if column.unique]
    lines = [
        "# A first mapping, drafted from a sample. What stands after `guess:` wants a look.",
        f"file: {{{_file(sample)}}}",
        f"{GUESS} the line above, from {sample.rows} rows",
    ]
    if sample.odd_rows:
        lines.append(f"{GUESS} {sample.odd_rows} rows have another number of cells; is one of them a trailer?")
    lines.append(f"{GUESS} filled and different in every row: {', '.join(map(_key, keys)) or 'no column'}")
    resources = list(_resources(sample, roles))
    used = {one or two for one, two in re.findall(r'\$(?:\{([^{}]+)\}|([^"\]},!]+))', "\n".join(resources))}
    event = next((roles[role] for role in ("news", "when") if role in roles and roles[role].type == "datetime"), None)
    if event is not None:
        lines += [f'event_time: "{_cell(event)}" {GUESS} when it happened at the sender']
        used.add(event.name)
    lines += [
        "",
        "columns:",
        *(_column(column, _role(column, roles), column.name in used) for column in sample.columns),
        "",
        "resources:",
    ]
    return "\n".join([*lines, *resources, ""]).replace("FILE", file_name)


def _file(sample: Sample) -> str:
    parts = [f"delimiter: {sample.delimiter}", f"encoding: {sample.encoding}", f"header: {str(sample.header).lower()}"]
    if sample.trailer:
        starts, count = sample.trailer
        parts.append(f'trailer: {{starts: "{starts}"{f", count: {count}" if count else ""}}}')
    return ", ".join(parts)


def _cell(column: Look) -> str:
    """Return how a template names a column's cell; what is no plain word stands in braces."""
    return f"${column.name}" if re.fullmatch(r"[A-Za-z_][\w -]*", column.name) else f"${{{column.name}}}"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace('"', '\\"') + '"'


def _roles(sample: Sample) -> dict[str, Look]:
    roles: dict[str, Look] = {}
    for role, words in ROLES.items():
        for word in words:
            found = [one for one in sample.columns if plain(one.name) == word]
            if found and role not in roles and found[0] not in roles.values():
                roles[role] = found[0]
    if "status" in roles:
        roles[f"status {_tells_of(roles)}"] = roles.pop("status")
    return roles


def _tells_of(roles: dict[str, Look]) -> str:
    """Return the type whose status a row tells, if it tells one: the same word means another thing for another type."""
    signs = {"value": "Observation", "given_at": "Immunization", "drug": "MedicationRequest"}
    signs |= {"drugname": "MedicationRequest", "visit": "Encounter"}
    return next((kind for role, kind in signs.items() if role in roles), "Observation")


def _role(column: Look, roles: dict[str, Look]) -> str:
    return next((role for role, one in roles.items() if one is column), "")


def _column(column: Look, role: str, used: bool) -> str:
    parts, notes = [], [f"filled in {column.filled} of {column.rows} rows", f"{column.distinct} different"]
    kind = _declared(column, role)
    if kind != "string":
        parts.append(f"type: {kind}")
    if column.type != "string":
        notes.insert(0, f"looks like {column.type}")
    if column.formats:
        parts.append(f'format: "{column.formats[0]}"')
        others = column.formats[1:]
        notes += [f"fits {', '.join(others)} as well: ask the partner"] if others else []
    if kind == "code":
        parts.append(_codes(column, role))
    if not used:
        parts.append("unused: not mapped yet")
    return f"  {_key(column.name)}: {{{', '.join(parts)}}} {GUESS} {', '.join(notes)}"


def _codes(column: Look, role: str) -> str:
    """Return the table of a column's codes: HL7's own, or what the words of the sample mean."""
    if role == "sex" and set(column.cells) <= set("MFOUAN"):
        return "table: AdministrativeSex"
    meant = _meant(column, role) or {}
    return "map: {" + ", ".join(f'"{cell}": {code}' for cell, code in meant.items()) + "}"


def _meant(column: Look, role: str) -> dict[str, str] | None:
    """Return what a column's cells mean, where all of them are words that are known to mean something."""
    words = {"sex": SEXES, "class": CLASSES}.get(role) or STATUS.get(role.removeprefix("status "), {})
    if not column.cells or not all(cell.casefold() in words for cell in column.cells):
        return None
    return {cell: words[cell.casefold()] for cell in column.cells}


def _status(roles: dict[str, Look], kind: str, otherwise: str) -> str:
    """Return a resource's status: what the column says, where its words are known for that type."""
    column = roles.get(f"status {kind}")
    if column and _meant(column, f"status {kind}"):
        return f'"{_cell(column)}"'
    return f"{otherwise} {GUESS} for every row; a column that says it has to be mapped"


def _declared(column: Look, role: str) -> str:
    """Return the type to declare: what only looks like a number and is a name of something stays text."""
    if role in {"sex", "class"} or role.startswith("status "):
        return "code" if _meant(column, role) else "string"
    named = re.search(r"(id|number|no|nr|code|phone|mobile|fax|zip|postcode|mrn|ssn|npi)$", column.name.casefold())
    if column.type in {"integer", "decimal", "boolean"} and (role or named):
        return "string"
    return column.type


def _resources(sample: Sample, roles: dict[str, Look]) -> Iterator[str]:
    unique = next((column for column in sample.columns if column.unique), sample.columns[0])
    person = "mrn" in roles or sum(role in roles for role in _PATIENT) >= 3
    drafted = [
        *(_patient(roles, roles.get("mrn", unique)) if person else ()),
        *(
            _result(roles, _result_key(roles, unique))
            if "value" in roles and {"test", "testname"} & roles.keys()
            else ()
        ),
        *(_encounter(roles) if "visit" in roles and {"admit", "class", "discharge"} & roles.keys() else ()),
        *(_immunization(roles) if {"mrn", "given_at"} <= roles.keys() and _named(roles, "vaccine") else ()),
        *(_medication(roles) if "mrn" in roles and _named(roles, "drug") else ()),
    ]
    yield from drafted
    if not drafted:
        yield f"  row: {GUESS} the columns' names tell nothing"
        yield "    type: Basic"
        yield f'    key: ["{_cell(unique)}"]'
        yield "    elements: {code: {text: row}}"


def _named(roles: dict[str, Look], role: str) -> str:
    """Return a CodeableConcept of a code's column and of the one that names it; "" where there is neither."""
    code = f'coding: [{{code: "{_cell(roles[role])}"}}]' if role in roles else ""
    text = f'text: "{_cell(roles[f"{role}name"])}"' if f"{role}name" in roles else ""
    return f"{{{', '.join(part for part in (code, text) if part)}}}" if code or text else ""


def _head(name: str, kind: str, key: list[Look]) -> Iterator[str]:
    columns = ", ".join(f'"{_cell(column)}"' for column in key)
    yield f"  {name}: {GUESS} from the columns' names"
    yield f"    type: {kind}"
    yield f"    key: [{columns}] {GUESS} what makes it this one and no other"


def _encounter(roles: dict[str, Look]) -> Iterator[str]:
    visit = roles["visit"]
    yield from _head("visit", "Encounter", [visit])
    yield "    living: true"
    yield "    elements:"
    yield f'      identifier: [{{value: "{_cell(visit)}"}}] {GUESS} the system is missing'
    yield f"      status: {_status(roles, 'Encounter', 'unknown')}"
    known = "class" in roles and _declared(roles["class"], "class") == "code"
    code = f'"{_cell(roles["class"])}"' if known else f"AMB {GUESS} for every row"
    yield "      class:"
    yield '        system: "http://terminology.hl7.org/CodeSystem/v3-ActCode"'
    yield f"        code: {code}"
    if "mrn" in roles:
        yield "      subject: {ref: patient}"
    ends = (("admit", "start"), ("discharge", "end"))
    period = [f'{name}: "{_cell(roles[role])}"' for role, name in ends if _time(roles, role)]
    if period:
        yield f"      period: {{{', '.join(period)}}}"


def _immunization(roles: dict[str, Look]) -> Iterator[str]:
    key = [roles[role] for role in ("mrn", "vaccine", "vaccinename", "given_at") if role in roles]
    yield from _head("immunization", "Immunization", key)
    yield "    elements:"
    yield f"      status: {_status(roles, 'Immunization', 'completed')}"
    yield f"      vaccineCode: {_named(roles, 'vaccine')} {GUESS} the system is missing"
    yield "      patient: {ref: patient}"
    name = "occurrenceDateTime" if _time(roles, "given_at") else "occurrenceString"
    yield f'      {name}: "{_cell(roles["given_at"])}"'
    if _text(roles, "lot"):
        yield f'      lotNumber: "{_cell(roles["lot"])}"'


def _medication(roles: dict[str, Look]) -> Iterator[str]:
    whose = [roles["order"]] if "order" in roles else [roles["mrn"]]
    what = [] if "order" in roles else [roles[role] for role in ("drug", "drugname", "start") if role in roles]
    yield from _head("prescription", "MedicationRequest", [*whose, *what])
    yield "    elements:"
    if "order" in roles:
        yield f'      identifier: [{{value: "{_cell(roles["order"])}"}}] {GUESS} the system is missing'
    yield f"      status: {_status(roles, 'MedicationRequest', 'unknown')}"
    yield "      intent: order"
    yield f"      medicationCodeableConcept: {_named(roles, 'drug')} {GUESS} the system is missing"
    yield "      subject: {ref: patient}"
    if _time(roles, "start"):
        yield f'      authoredOn: "{_cell(roles["start"])}"'


def _time(roles: dict[str, Look], role: str) -> bool:
    return role in roles and roles[role].type in {"date", "datetime"}


def _patient(roles: dict[str, Look], key: Look) -> Iterator[str]:
    yield f"  patient: {GUESS} from the columns' names"
    yield "    type: Patient"
    yield f'    key: ["{_cell(key)}"] {GUESS} what makes a patient this patient for the partner'
    yield "    living: true"
    yield "    elements:"
    yield f'      identifier: [{{value: "{_cell(key)}"}}] {GUESS} the system is missing'
    if "family" in roles or "given" in roles:
        family = f'family: "{_cell(roles["family"])}"' if "family" in roles else ""
        given = f'given: ["{_cell(roles["given"])}"]' if "given" in roles else ""
        yield f"      name: [{{{', '.join(part for part in (family, given) if part)}}}]"
    if "birth" in roles and roles["birth"].type == "date":
        yield f'      birthDate: "{_cell(roles["birth"])}"'
    if "sex" in roles and _declared(roles["sex"], "sex") == "code":
        yield f'      gender: "{_cell(roles["sex"])}"'
    telecom = [
        f'{{system: {kind}, value: "{_cell(roles[kind])}"}}' for kind in ("phone", "email") if _text(roles, kind)
    ]
    if telecom:
        yield f"      telecom: [{', '.join(telecom)}]"
    places = (
        ("street", 'line: ["%s"]'),
        ("city", 'city: "%s"'),
        ("state", 'state: "%s"'),
        ("zip", 'postalCode: "%s"'),
    )
    address = [form % _cell(roles[role]) for role, form in places if _text(roles, role)]
    if address:
        yield f"      address: [{{{', '.join(address)}}}]"


def _text(roles: dict[str, Look], role: str) -> bool:
    return role in roles and _declared(roles[role], role) == "string"


def _result_key(roles: dict[str, Look], unique: Look) -> list[Look]:
    """Return what tells results apart: the order and the test, else the patient, the test and the time.

    A patient has the same test again: without the time the later result would replace the earlier.
    """
    whose = [roles["order"]] if "order" in roles else [roles.get("mrn", unique)]
    times = [] if "order" in roles else [roles[role] for role in ("when", "news") if role in roles][:1]
    return [*whose, roles["test" if "test" in roles else "testname"], *times]


def _result(roles: dict[str, Look], key: list[Look]) -> Iterator[str]:
    unit = f'"{_cell(roles["unit"])}"' if "unit" in roles else '""'
    yield from _head("result", "Observation", key)
    yield "    elements:"
    yield f"      status: {_status(roles, 'Observation', 'final')}"
    yield f"      code: {_named(roles, 'test')} {GUESS} the system is missing"
    if "mrn" in roles:
        yield "      subject: {ref: patient}"
    if _time(roles, "when"):
        yield f'      effectiveDateTime: "{_cell(roles["when"])}"'
    if _text(roles, "value"):
        call = "lab-value-comma" if roles["value"].comma else "lab-value"
        yield f'      value[x]: {{call: {call}, with: ["{_cell(roles["value"])}", {unit}]}}'
