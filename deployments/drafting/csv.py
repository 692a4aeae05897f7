"""A first mapping file from a CSV sample: declared columns, and what their names make one think of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from deployments.drafting.columns import Look, Sample

GUESS = "# guess:"
_WORDS: dict[str, tuple[str, ...]] = {
    "mrn": ("mrn", "patientid", "patid", "patientnumber", "medicalrecordnumber", "pid", "memberid", "personid"),
    "family": ("lastname", "familyname", "surname", "patientlastname"),
    "given": ("firstname", "givenname", "forename", "patientfirstname"),
    "birth": ("birthdate", "dob", "dateofbirth", "birthday"),
    "sex": ("sex", "gender"),
    "phone": ("phone", "homephone", "telephone", "phonenumber", "mobile", "mobilephone"),
    "email": ("email", "mail", "emailaddress"),
    "street": ("street", "address", "addressline1", "address1"),
    "city": ("city", "town"),
    "state": ("state", "province"),
    "zip": ("zip", "zipcode", "postalcode", "postcode"),
    "test": ("loinc", "loinccode", "testcode", "resultcode", "observationcode", "code", "analyte"),
    "value": ("value", "result", "resultvalue", "observationvalue"),
    "unit": ("unit", "units", "uom"),
    "order": ("accession", "accessionnumber", "ordernumber", "orderid", "specimenid", "labnumber"),
    "news": ("updatedat", "lastupdated", "modifiedat", "resultedat", "reportedat", "releasedat", "timestamp"),
    "when": ("collectedat", "collected", "collectiondate", "collectiontime", "observedat", "resultdate", "date"),
}
_ADDRESS = {"street": 'line: ["$%s"]', "city": 'city: "$%s"', "state": 'state: "$%s"', "zip": 'postalCode: "$%s"'}
_PATIENT = ("mrn", "family", "given", "birth", "sex", "phone", "email", "street", "city", "state", "zip")


def mapping(sample: Sample, file_name: str) -> str:
    """Return the text of a mapping file that can be loaded as it is."""
    roles = _roles(sample)
    keys = [column.name for column in sample.columns if column.unique]
    lines = [
        "# A first mapping, drafted from a sample. What stands after `guess:` wants a look.",
        f"file: {{delimiter: {sample.delimiter}, encoding: {sample.encoding}, header: {str(sample.header).lower()}}}",
        f"{GUESS} the line above, from {sample.rows} rows",
    ]
    if sample.odd_rows:
        lines.append(f"{GUESS} {sample.odd_rows} rows have another number of cells; is one of them a trailer?")
    lines.append(f"{GUESS} filled and different in every row: {', '.join(map(_key, keys)) or 'no column'}")
    resources = list(_resources(sample, roles))
    used = set(re.findall(r'\$(?:\{)?([^"\]},!]+)', "\n".join(resources)))
    event = next((roles[role] for role in ("news", "when") if role in roles and roles[role].type == "datetime"), None)
    if event is not None:
        lines += [f'event_time: "${event.name}" {GUESS} when it happened at the sender']
        used.add(event.name)
    lines += [
        "",
        "columns:",
        *(_column(column, _role(column, roles), column.name in used) for column in sample.columns),
        "",
        "resources:",
    ]
    return "\n".join([*lines, *resources, ""]).replace("FILE", file_name)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace('"', '\\"') + '"'


def _roles(sample: Sample) -> dict[str, Look]:
    roles: dict[str, Look] = {}
    for role, words in _WORDS.items():
        for word in words:
            found = [one for one in sample.columns if re.sub(r"\W|_", "", one.name.casefold()) == word]
            if found and role not in roles and found[0] not in roles.values():
                roles[role] = found[0]
    return roles


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
        parts.append("table: AdministrativeSex")
    if not used:
        parts.append("unused: not mapped yet")
    return f"  {_key(column.name)}: {{{', '.join(parts)}}} {GUESS} {', '.join(notes)}"


def _declared(column: Look, role: str) -> str:
    """Return the type to declare: what only looks like a number and is a name of something stays text."""
    if role == "sex" and column.sexes:
        return "code"
    named = re.search(r"(id|number|no|nr|code|phone|mobile|fax|zip|postcode|mrn|ssn|npi)$", column.name.casefold())
    if column.type in {"integer", "decimal"} and (role or named):
        return "string"
    return column.type


def _resources(sample: Sample, roles: dict[str, Look]) -> Iterator[str]:
    unique = next((column for column in sample.columns if column.unique), sample.columns[0])
    patient = [role for role in _PATIENT if role in roles]
    result = "value" in roles and "test" in roles
    if "mrn" in roles or len(patient) >= 3:
        yield from _patient(roles, roles.get("mrn", unique))
    if result:
        yield from _result(roles, _result_key(roles, unique))
    if not result and "mrn" not in roles and len(patient) < 3:
        yield f"  row: {GUESS} the columns' names tell nothing"
        yield "    type: Basic"
        yield f'    key: ["${unique.name}"]'
        yield "    elements: {code: {text: row}}"


def _patient(roles: dict[str, Look], key: Look) -> Iterator[str]:
    yield f"  patient: {GUESS} from the columns' names"
    yield "    type: Patient"
    yield f'    key: ["${key.name}"] {GUESS} what makes a patient this patient for the partner'
    yield "    living: true"
    yield "    elements:"
    yield f'      identifier: [{{value: "${key.name}"}}] {GUESS} the system is missing'
    if "family" in roles or "given" in roles:
        family = f'family: "${roles["family"].name}"' if "family" in roles else ""
        given = f'given: ["${roles["given"].name}"]' if "given" in roles else ""
        yield f"      name: [{{{', '.join(part for part in (family, given) if part)}}}]"
    if "birth" in roles and roles["birth"].type == "date":
        yield f'      birthDate: "${roles["birth"].name}"'
    if "sex" in roles and _declared(roles["sex"], "sex") == "code":
        yield f'      gender: "${roles["sex"].name}"'
    telecom = [f'{{system: {kind}, value: "${roles[kind].name}"}}' for kind in ("phone", "email") if _text(roles, kind)]
    if telecom:
        yield f"      telecom: [{', '.join(telecom)}]"
    places = (
        ("street", 'line: ["$%s"]'),
        ("city", 'city: "$%s"'),
        ("state", 'state: "$%s"'),
        ("zip", 'postalCode: "$%s"'),
    )
    address = [form % roles[role].name for role, form in places if _text(roles, role)]
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
    return [*whose, roles["test"], *times]


def _result(roles: dict[str, Look], key: list[Look]) -> Iterator[str]:
    unit = f'"${roles["unit"].name}"' if "unit" in roles else '""'
    yield f"  result: {GUESS} from the columns' names"
    yield "    type: Observation"
    columns = ", ".join(f'"${column.name}"' for column in key)
    yield f"    key: [{columns}] {GUESS} what makes a result this result"
    yield "    elements:"
    yield f"      status: final {GUESS} for every row; a column that says it has to be mapped"
    yield f'      code: {{coding: [{{code: "${roles["test"].name}"}}]}} {GUESS} the system is missing'
    if "mrn" in roles:
        yield "      subject: {ref: patient}"
    if "when" in roles and roles["when"].type in {"date", "datetime"}:
        yield f'      effectiveDateTime: "${roles["when"].name}"'
    if _text(roles, "value"):
        yield f'      value[x]: {{call: lab-value, with: ["${roles["value"].name}", {unit}]}}'
