"""The Python that maps become can be read."""

from __future__ import annotations

import pytest

from mappings.engine.compiled import compile_maps
from mappings.engine.source import files
from mappings.engine.written import written


def test_a_maps_functions_are_printed_and_are_python() -> None:
    text = written(compile_maps(files()), ["PID[Patient]", "CWE[CodeableConcept]"])
    compile(text, "<written>", "exec")
    assert "def m_PID_Patient(seg, run, node):" in text
    assert "def g_m_PID_Patient_5(seg, run, node, o):" in text
    assert "def m_CWE_CodeableConcept_plain(" in text
    assert "m_PV1" not in text


def test_an_unknown_map_is_told_with_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"PID\[Patient\]"):
        written(compile_maps(files()), ["PID[Patent]"])
