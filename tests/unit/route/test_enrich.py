import json
import os
from pathlib import Path
from typing import Any

import pytest

from mappings.engine.slots import assemble
from tasks import registry
from tasks.errors import ConfigError
from tasks.feed import Enrichment, Rule
from tasks.model import Conversion, Entry
from tasks.route.enrich import Enricher
from tasks.route.lookup import Lookup
from tasks.route.rules import compile_rules

LOINC = "http://loinc.org"


@pytest.fixture
def lookups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLUICE_LOOKUPS", str(tmp_path))
    (tmp_path / "lab.yaml").write_text("kind: csv\nfile: lab.csv\n")
    (tmp_path / "lab.csv").write_text(f"code,to_system,to_code,to_display\nGLU,{LOINC},2345-7,Glucose\n")
    (tmp_path / "wards.yaml").write_text("kind: csv\nfile: wards.csv\nkey: [ward]\n")
    (tmp_path / "wards.csv").write_text("ward,name\nW1,Ward of Surgery\n")
    return tmp_path


def enriched(enricher: Enricher, resource: dict[str, Any], slots: Any = None) -> tuple[Entry, Conversion]:
    entry = Entry(resource, slots)
    conversion = Conversion(entries=[entry])
    enricher(conversion)
    return entry, conversion


def result(code: str) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "o", "code": {"coding": [{"system": "urn:lab", "code": code}]}}


def test_a_local_code_gets_the_coding_of_the_table_and_one_that_is_not_there_is_a_finding(lookups: Path) -> None:
    enricher = Enricher([Enrichment(translate="Observation.code", table="lab")])
    entry, conversion = enriched(enricher, result("GLU"))
    assert entry.resource["code"]["coding"][1] == {"system": LOINC, "code": "2345-7", "display": "Glucose"}
    assert conversion.findings == []
    _, conversion = enriched(enricher, result("XYZ"))
    assert [(one.code, one.location) for one in conversion.findings] == [("not-in-lookup", "Observation.code")]
    assert [(one.table, one.code) for one in conversion.unmapped] == [("lookup:lab", "XYZ")]


def test_what_the_record_does_not_say_is_filled_and_what_it_says_stays(lookups: Path) -> None:
    enricher = Enricher([Enrichment(fill="Location.name", table="wards", by="identifier.value", column="name")])
    ward = {"resourceType": "Location", "id": "l", "identifier": [{"value": "W1"}]}
    slots: dict[str, Any] = {"PL.1": [("identifier", [{"value": "W1"}])]}
    entry, _ = enriched(enricher, dict(ward), slots)
    assert entry.resource["name"] == "Ward of Surgery"
    assert assemble("Location", "l", slots)["name"] == "Ward of Surgery"
    slots["PL.9"] = [("name", "said by the sender")]
    assert assemble("Location", "l", slots)["name"] == "said by the sender"
    entry, _ = enriched(enricher, {**ward, "name": "own"})
    assert entry.resource["name"] == "own"


def test_a_table_that_changed_counts_with_the_next_batch_and_changes_the_version(lookups: Path) -> None:
    enricher = Enricher([Enrichment(translate="Observation.code", table="lab")])
    before = enricher.reload()
    assert enricher.reload() == before
    (lookups / "lab.csv").write_text(f"code,to_system,to_code,to_display\nXYZ,{LOINC},1-8,New\n")
    os.utime(lookups / "lab.csv", (1, 1))
    assert enricher.reload() != before
    entry, _ = enriched(enricher, result("XYZ"))
    assert entry.resource["code"]["coding"][1]["code"] == "1-8"


def test_a_concept_map_is_a_table_by_system_and_code(lookups: Path) -> None:
    targets = [{"code": "2345-7", "equivalence": "equal"}]
    group = {"source": "urn:lab", "target": LOINC, "element": [{"code": "GLU", "target": targets}]}
    (lookups / "map.json").write_text(json.dumps({"resourceType": "ConceptMap", "group": [group]}))
    (lookups / "map.yaml").write_text("kind: concept-map\nfile: map.json\n")
    entry, _ = enriched(Enricher([Enrichment(translate="Observation.code", table="map")]), result("GLU"))
    assert entry.resource["code"]["coding"][1] == {"system": LOINC, "code": "2345-7"}


def test_a_table_of_a_database_is_asked_again_after_its_time(
    lookups: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_CONNECTION_MASTER", json.dumps({"url": postgres_url}))
    query = "query: select 'GLU' as code, 'urn:x' as to_system, extract(epoch from clock_timestamp())::text as to_code"
    (lookups / "sql.yaml").write_text(f"kind: sql\nconnection: master\nrefresh: 0\n{query}\n")
    table = Lookup("sql")
    first = table.rows["GLU",]["to_code"]
    table.reload()
    assert table.rows["GLU",]["to_code"] != first
    (lookups / "bad.yaml").write_text("kind: sql\nconnection: master\nquery: select nothing\n")
    with pytest.raises(ConfigError, match="42703"):
        Lookup("bad")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: csv\nfil: x", "fil"),
        ("kind: csv\nquery: select", "have a `file`"),
        ("kind: csv\nfile: none.csv", "none.csv cannot be read"),
        ("kind: csv\nfile: lab.csv\nkey: [ward]", "no column ward"),
    ],
)
def test_a_mistake_in_a_tables_file_is_told_with_the_file(lookups: Path, text: str, said: str) -> None:
    (lookups / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        Lookup("bad")
    assert "bad.yaml" in str(raised.value)
    assert said in str(raised.value)


def test_a_name_that_is_near_is_offered(lookups: Path) -> None:
    with pytest.raises(ConfigError, match="wards"):
        Enricher([Enrichment(translate="Observation.code", table="ward")])


def test_a_record_is_split_between_destinations_by_type() -> None:
    rules = [
        Rule(when="status = F", to=("registry",), only=("Observation",), go_on=True),
        Rule(to=("warehouse", "ehr")),
    ]
    decided = compile_rules(rules)([{"status": "F"}])
    assert decided.to == ("registry", "warehouse", "ehr")
    assert decided.takes("registry", "Observation")
    assert not decided.takes("registry", "Patient")
    assert decided.takes("ehr", "Patient")
    assert compile_rules(rules)([{"status": "P"}]).to == ("warehouse", "ehr")
    later = compile_rules([*rules[:1], Rule(drop="the rest")])
    assert later([{"status": "F"}]).to == ("registry",)
    assert later([{"status": "P"}]).dropped == "the rest"


def test_a_condition_may_be_fhirpath() -> None:
    decide = compile_rules([Rule(when="Observation: status = 'final' and code.coding.exists()", to=("ehr",))])
    assert decide({**result("x"), "status": "final"}).to == ("ehr",)
    assert decide({**result("x"), "status": "preliminary"}).dropped == "no-route"
    assert decide({"resourceType": "Patient"}).dropped == "no-route"
    with pytest.raises(ConfigError, match="FHIRPath"):
        compile_rules([Rule(when="Observation: status ===", to=("ehr",))])


def test_a_sites_own_function_chooses_or_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = [["ehr"], "not ours", None]
    real = registry.find
    monkeypatch.setattr(registry, "names", lambda group: ["choose"])
    monkeypatch.setattr(
        registry, "find", lambda group, name: (lambda _: said[0]) if group == "actions" else real(group, name)
    )
    decide = compile_rules([Rule(to=("ehr", "lab"), call="choose"), Rule(to=("warehouse",))])
    assert decide({}).to == ("ehr",)
    said.pop(0)
    assert decide({}).dropped == "not ours"
    said.pop(0)
    assert decide({}).to == ("warehouse",)
