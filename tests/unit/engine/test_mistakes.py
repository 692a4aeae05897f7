"""A mapping file's mistakes are found when it is loaded: file, line, the nearest valid word."""

from __future__ import annotations

from pathlib import Path

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.errors import MappingError
from mappings.engine.source import ROOT, Files

HEAD = "PD1[Patient]:\n  to: Patient\n  rows:\n"


def problems(root: Path, name: str, text: str) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    with pytest.raises(MappingError) as raised:
        compile_maps(Files((root, ROOT)))
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{from: PD1-4, to: generalPractioner, as: 'XCN[Practitioner]'}", "did you mean generalPractitioner"),
        ("{from: PD1-4, to: generalPractitioner, as: 'XCN[Practitoner]'}", "did you mean XCN[Practitioner]"),
        (
            "{from: PD1-4, to: generalPractitioner, as: 'CX[Identifier]'}",
            "makes Identifier, the target takes Reference",
        ),
        ("{from: PD1-4, too: name}", "unknown key 'too'"),
        ("{from: PD1-3, to: gender, table: AdministrativSex}", "did you mean AdministrativeSex"),
        ("{from: PD1-3, to: gender, when: PD1-3 VALUD}", "VALUED"),
        ("{from: XYZZY, to: gender}", "is not a field"),
        ("{from: PD1-3, to: extension, url: 'urn:x', value: Strng}", "did you mean valueString"),
        ("{from: PD1-3, to: name}", "say with as which data type map"),
    ],
)
def test_a_row_s_mistake_names_file_line_and_nearest_word(tmp_path: Path, row: str, said: str) -> None:
    found = problems(tmp_path, "v2/segments/PD1.yaml", f"{HEAD}  - {row}\n")
    assert "v2/segments/PD1.yaml:4: " in found
    assert said in found


def test_yaml_that_cannot_be_read_names_file_and_line(tmp_path: Path) -> None:
    assert "v2/segments/PD1.yaml:5: not YAML" in problems(tmp_path, "v2/segments/PD1.yaml", HEAD + "  - {from: [\n")


def test_a_message_map_s_mistake_names_the_segment_map(tmp_path: Path) -> None:
    text = "ACK:\n  rows:\n  - {segment: MSH, to: MessageHeader, map: 'MSH[MessageHeadr]'}\n"
    assert "did you mean MSH[MessageHeader]" in problems(tmp_path, "v2/messages/ack.yaml", text)


def test_a_code_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    assert "codes/Religion.csv:1" in problems(tmp_path, "codes/Religion.csv", "a,b\n1,2\n")


def test_an_overlay_s_file_wins_and_changes_the_version(tmp_path: Path) -> None:
    path = tmp_path / "v2/segments/PD1.yaml"
    path.parent.mkdir(parents=True)
    path.write_text((ROOT / "v2/segments/PD1.yaml").read_text("utf-8").replace("PD1-3", "PD1-13"), "utf-8")
    shipped, overlaid = compile_maps(Files((ROOT,))), compile_maps(Files((tmp_path, ROOT)))
    assert 13 in overlaid.units["PD1[Patient]"].covers
    assert 13 not in shipped.units["PD1[Patient]"].covers
    assert shipped.version != overlaid.version
