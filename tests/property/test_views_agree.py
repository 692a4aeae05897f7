"""A view means the same in process and in Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from infra.dev.scratch import scratch_postgres
from mappings.engine.views import View, ViewError, compile_view
from tasks.publish.view_runner import rows_in_postgres

EXPRESSIONS = """
id | name | name.given | name.given.first() | name.given.last() | name.given[1] | name[1].given
name.given.count() | name.given.join('-') | name.where(use.exists()).family | name.where(use != 'old').family
birthDate < @1970-07 | name.where((use != 'old').not()).family
name.where(use = 'old' or given.exists()).family | name.where(given = 'A').family
name.where('A' in given).family | name.exists(family = 'F') | name.all(family.exists())
name.select(given.first()) | name.family.distinct() | active | active.not() | active = true
active and gender = 'male' | active or gender = 'male' | active xor (gender = 'male')
active implies gender.exists() | birthDate = @1970-06 | birthDate = '1970-06-15' | birthDate <= @1970-06-15
birthDate > @1969 | birthDate != @1970 | birthDate.lowBoundary() | birthDate.highBoundary() | deceased
deceased.ofType(dateTime) | deceased is boolean | multipleBirth | multipleBirth.ofType(integer) + 1
multipleBirth.ofType(integer) / 3 | multipleBirth.ofType(integer) div 2 | multipleBirth.ofType(integer) mod 2
multipleBirth.ofType(integer) > 1.5 | multipleBirth.ofType(integer) = 2.0
multipleBirth.ofType(integer).toString() | multipleBirth.ofType(integer).lowBoundary()
link.other.getReferenceKey() | link.other.getReferenceKey(Patient) | link.first().other.getReferenceKey(Patient)
extension.value | extension('a').value.ofType(decimal).highBoundary()
extension('a').value.ofType(decimal) < 1.6 | extension('a').value.ofType(dateTime) > @2020-02-29
extension.where(value.exists()).url | deceased.ofType(dateTime).lowBoundary()
deceased.ofType(dateTime).highBoundary() | telecom.where(rank > 1).value | telecom.value.first().toInteger()
telecom.value.last().toDecimal() | telecom.rank.distinct() | telecom.rank.first() in telecom.rank
telecom.where(value.startsWith('x')).value | telecom.value.first().length()
name.first().family & name.first().use | name.first().family + name.first().use
iif(active, name.given, name.family) | telecom[name.count()].value | name.given.where($this > 'A')
gender.hasValue() | name.given.hasValue() | %rowIndex
telecom.where(value.contains('\\\\') or value.endsWith('\\'')).value | telecom.rank.first() * 1.50
name.period.start = name.period.end
"""
PATHS = [path.strip() for line in EXPRESSIONS.strip().splitlines() for path in line.split(" | ")]


@pytest.fixture(scope="module")
def connection() -> Iterator[psycopg.Connection[Any]]:
    with scratch_postgres() as url, psycopg.connect(url, autocommit=True) as connection:
        yield connection


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


WORD = st.sampled_from(["A", "B", "F", "old", "x'y\\", "Ä b", ""])
MOMENT = st.sampled_from(
    [
        "1970",
        "1970-06",
        "1970-06-15",
        "2020-02-29",
        "2021-02-29",
        "2020-02-29T10:00:00.5Z",
        "1970-06-15T00:30:00+14:00",
        "bad",
        "",
    ]
)
PERIOD = _some(start=MOMENT, end=MOMENT)
REFERENCE = st.sampled_from(
    ["Patient/p1", "http://x/y/Patient/p2/_history/3", "urn:uuid:7", "#c", "Group/g", "Patient/", "x y"]
)
EXTENSION = st.one_of(
    st.fixed_dictionaries({"url": st.sampled_from(["a", "b"]), key: value})
    for key, value in (
        ("valueDecimal", st.sampled_from([Decimal("1.50"), Decimal("-2"), Decimal("0.001")])),
        ("valueDateTime", MOMENT),
        ("valueBoolean", st.booleans()),
    )
)
PATIENT = _some(
    id=WORD,
    active=st.booleans(),
    gender=st.sampled_from(["male", "other"]),
    birthDate=MOMENT,
    name=st.lists(
        _some(family=WORD, use=WORD, given=st.lists(WORD | st.none(), min_size=1, max_size=3), period=PERIOD),
        max_size=3,
    ),
    telecom=st.lists(
        _some(value=st.sampled_from(["5", "007", "-3.20", "x'y\\", "x"]), rank=st.integers(0, 3)), max_size=3
    ),
    multipleBirthInteger=st.integers(-3, 7),
    deceasedBoolean=st.booleans(),
    deceasedDateTime=MOMENT,
    link=st.lists(st.fixed_dictionaries({"other": _some(reference=REFERENCE, type=st.just("Patient"))}), max_size=3),
    extension=st.lists(EXTENSION, max_size=3),
).map(lambda fields: {"resourceType": "Patient", **fields})
VIEWS = [
    compile_view(
        {"resource": "Patient", "select": [{key: over, "column": [{"name": "x", "path": path, "collection": many}]}]}
        if over
        else {"resource": "Patient", "select": [{"column": [{"name": "x", "path": path, "collection": many}]}]}
    )
    for path in PATHS
    for many in (False, True)
    for key, over in (("", ""), ("forEachOrNull", "$this.where(active)"))
]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    return ("number", Decimal(value).normalize()) if number else value


def _outcome(rows: Any) -> Any:
    try:
        return [_plain(row) for row in rows()]
    except ViewError:
        return "more than one"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(view=st.sampled_from(VIEWS), resource=PATIENT)
def test_both_runners_give_the_same_row_or_refuse_the_same_resource(
    connection: psycopg.Connection[Any], view: View, resource: dict[str, Any]
) -> None:
    note(view.columns[0].path)
    in_process = _outcome(lambda: view.rows([resource]))
    assert _outcome(lambda: rows_in_postgres(connection, view, [resource])) == in_process
