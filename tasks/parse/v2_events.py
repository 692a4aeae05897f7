"""Which message structure an event has: HL7 table 0354, for messages that leave MSH-9.3 out.

Versions differ; the first candidate that the message's version has is taken, and a structure named after the event
itself (2.1 and 2.2 have one for each) goes before all of them.
"""

from __future__ import annotations

_EVENTS = {
    "ADT_A01": "A01 A04 A08 A13 A05 A14 A28 A31",
    "ADT_A02": "A02 A21 A22 A23 A25 A26 A27 A29 A32 A33",
    "ADT_A03": "A03",
    "ADT_A05": "A05 A14 A28 A31",
    "ADT_A06": "A06 A07",
    "ADT_A09": "A09 A10 A11 A12",
    "ADT_A12": "A12",
    "ADT_A15": "A15",
    "ADT_A16": "A16",
    "ADT_A17": "A17",
    "ADT_A18": "A18",
    "ADT_A20": "A20",
    "ADT_A21": "A21 A22 A23 A25 A26 A27 A29 A32 A33",
    "ADT_A24": "A24 A37",
    "ADT_A30": "A30 A34 A35 A36 A46 A47 A48 A49",
    "ADT_A37": "A37",
    "ADT_A38": "A38",
    "ADT_A39": "A39 A40 A41 A42",
    "ADT_A43": "A43 A44",
    "ADT_A44": "A44",
    "ADT_A45": "A45",
    "ADT_A50": "A50 A51",
    "ADT_A52": "A52 A53",
    "ADT_A54": "A54 A55",
    "ADT_A60": "A60",
    "ADT_A61": "A61 A62",
    "BAR_P01": "P01",
    "BAR_P02": "P02",
    "BAR_P05": "P05",
    "BAR_P06": "P06",
    "BAR_P10": "P10",
    "BAR_P12": "P12",
    "CRM_C01": "C01 C02 C03 C04 C05 C06 C07 C08",
    "CSU_C09": "C09 C10 C11 C12",
    "DFT_P03": "P03",
    "DFT_P11": "P11",
    "DOC_T12": "T12",
    "ESU_U01": "U01",
    "INU_U05": "U05",
    "LSU_U12": "U12 U13",
    "MDM_T01": "T01 T03 T05 T07 T09 T11",
    "MDM_T02": "T02 T04 T06 T08 T10",
    "OMB_O27": "O27",
    "OMD_O03": "O03",
    "OMG_O19": "O19",
    "OMI_O23": "O23",
    "OML_O21": "O21",
    "OML_O33": "O33",
    "OML_O35": "O35",
    "OMN_O07": "O07",
    "OMP_O09": "O09",
    "OMS_O05": "O05",
    "ORM_O01": "O01",
    "ORU_R01": "R01 R03",
    "ORU_R30": "R30 R31 R32",
    "OUL_R21": "R21",
    "OUL_R22": "R22",
    "OUL_R23": "R23",
    "OUL_R24": "R24",
    "PEX_P07": "P07 P08",
    "PGL_PC6": "PC6 PC7 PC8",
    "PMU_B01": "B01 B02",
    "PMU_B03": "B03",
    "PMU_B04": "B04 B05 B06",
    "PMU_B07": "B07",
    "PMU_B08": "B08",
    "PPG_PCG": "PCG PCH PCJ",
    "PPP_PCB": "PCB PCC PCD",
    "PPR_PC1": "PC1 PC2 PC3",
    "QBP_Q21": "Q21 Q22 Q23 Q24 Q25",
    "QRY_A19": "A19",
    "QRY_PC4": "PC4 PC9 PCE PCK",
    "RAS_O17": "O17",
    "RAS_O01": "O01 RAS",
    "RDE_O11": "O11 O25",
    "RDE_O01": "O01",
    "RDS_O13": "O13",
    "RDS_O01": "O01",
    "REF_I12": "I12 I13 I14 I15",
    "RGV_O15": "O15",
    "RGV_O01": "O01",
    "RPA_I08": "I08 I09 I10 I11",
    "RQA_I08": "I08 I09 I10 I11",
    "RQC_I05": "I05 I06",
    "RQI_I01": "I01 I02 I03 I07",
    "RRI_I12": "I12 I13 I14 I15",
    "SIU_S12": "S12 S13 S14 S15 S16 S17 S18 S19 S20 S21 S22 S23 S24 S26 S27",
    "SRM_S01": "S01 S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "SRR_S01": "S01 S02 S03 S04 S05 S06 S07 S08 S09 S10 S11",
    "SSU_U03": "U03",
    "TCU_U10": "U10 U11",
    "VXU_V04": "V04",
}

# An order of a version before 2.4 carries O01 for every kind of order, and some senders keep that trigger later.
_LATER = {"RDE_O01": "RDE_O11", "RDS_O01": "RDS_O13", "RAS_O01": "RAS_O17", "RGV_O01": "RGV_O15"}


def _candidates() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for structure, triggers in _EVENTS.items():
        code = structure.partition("_")[0]
        for trigger in triggers.split():
            found.setdefault(f"{code}_{trigger}", []).append(structure)
    for old, new in _LATER.items():
        found.setdefault(old, []).append(new)
    # A structure of fewer events is the later and closer one (A05 before A01, A21 before A02).
    size = {structure: len(triggers.split()) for structure, triggers in _EVENTS.items()}
    return {event: tuple(sorted(names, key=lambda name: size.get(name, 0))) for event, names in found.items()}


STRUCTURES = _candidates()
"""`code_trigger` -> structures, the closest first."""

KNOWN = frozenset({*STRUCTURES, *(name for names in STRUCTURES.values() for name in names)})
"""What MSH-9.3 may say: structures, and events that senders take for their structures."""

WITHOUT_TRIGGER = {
    "BAR": "P01",
    "DFT": "P03",
    "ORM": "O01",
    "ORU": "R01",
    "RAS": "O17",
    "RDE": "O11",
    "RDS": "O13",
    "VXU": "V04",
}
"""The event of a message code that has one main event, where MSH-9.2 is missing."""


def fits(code: str, trigger: str, structure: str) -> bool:
    """Say whether an event may come in a structure: one that some version gives it, or one that is no other event's."""
    candidates = STRUCTURES.get(f"{code}_{trigger}", ())
    return not candidates or structure in candidates or structure == f"{code}_{trigger}"
