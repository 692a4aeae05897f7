"""Names and codes that the sample partners draw from: LOINC, UCUM, SNOMED CT, ICD-10-CM, RxNorm, CVX."""

from __future__ import annotations

from typing import NamedTuple

FAMILIES = (
    "Abernathy", "Adebayo", "Almeida", "Åkesson", "Bauer", "Bélanger", "Brandão", "Castellanos", "Côté", "D'Angelo",
    "De la Cruz", "Desrosiers", "Fernández Muñoz", "Fitzgerald", "García-López", "Gonçalves", "Grünwald", "Haddad",
    "Hernández", "Ibrahim", "Jørgensen", "Kowalski", "Lindström", "MacDonald", "Måns", "Müller", "Nakamura", "Núñez",
    "O'Brien", "Okafor", "Östberg", "Papadopoulos", "Patel", "Peña", "Quiñones", "Ramírez", "Saint-Pierre", "Schäfer",
    "Silva", "Søndergaard", "Tanaka", "Thompson", "Underwood", "Van der Berg", "Vásquez", "Washington", "Weiß",
    "Ximénez", "Yılmaz", "Young", "Zając", "Żukowska",
)  # fmt: skip
GIVEN_F = ("Aaliyah", "Amélie", "Beatriz", "Chloë", "Dolores", "Eléonore", "Fatima", "Grace", "Hanna", "Inés", "Joan",
           "Katarína", "Lucía", "Mary Ann", "Noor", "Olga", "Priya", "Renée", "Siân", "Zoé")  # fmt: skip
GIVEN_M = ("Ahmed", "André", "Björn", "Carlos", "Dmitri", "Emeka", "François", "Guðmundur", "Hiroshi", "Ian", "José",
           "Kwame", "Luís", "Michael", "Noël", "Óscar", "Pranav", "René", "Søren", "Tomás")  # fmt: skip
STREETS = ("Maple Avenue", "Saint-Laurent Blvd", "Peachtree St", "Elm Street Apt 4B", "Martin Luther King Jr Dr",
           "Harbor View Road", "Calle Ocho", "Old Mill Lane", "Broadway", "County Road 12")  # fmt: skip
CITIES = (("Northfield", "NY", "12801"), ("Eastport", "NY", "11941"), ("Riverton", "NJ", "08077"),
          ("Lakewood", "CT", "06088"), ("Cañon Springs", "NY", "12566"))  # fmt: skip
RACES = (("2106-3", "White"), ("2054-5", "Black or African American"), ("2028-9", "Asian"),
         ("1002-5", "American Indian or Alaska Native"), ("2131-1", "Other Race"))  # fmt: skip
LANGUAGES = (("en", "English"), ("es", "Spanish"), ("fr", "French"), ("pt", "Portuguese"), ("ar", "Arabic"))
DOCTORS = (
    ("1043562718", "Chaudhry", "Sana", "MD"),
    ("1285739406", "Lefèvre", "Hélène", "MD"),
    ("1598264037", "O'Connell", "Patrick", "DO"),
    ("1760394821", "Rosenbaum", "Miriam", "MD"),
    ("1912837465", "Iñárritu", "Joaquín", "MD"),
    ("1376450928", "Whitfield", "Dana", "NP"),
)


class Test(NamedTuple):
    """A numeric laboratory test: LOINC code and name, UCUM unit, reference range, digits after the point."""

    loinc: str
    name: str
    unit: str
    low: float
    high: float
    digits: int


PANELS: dict[tuple[str, str], tuple[Test, ...]] = {
    ("51990-0", "Basic metabolic panel - Blood"): (
        Test("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 70, 99, 0),
        Test("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", 7, 20, 0),
        Test("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 0.6, 1.3, 2),
        Test("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 135, 145, 0),
        Test("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", 3.5, 5.1, 1),
        Test("2075-0", "Chloride [Moles/volume] in Serum or Plasma", "mmol/L", 98, 107, 0),
        Test("2028-9", "Carbon dioxide, total [Moles/volume] in Serum or Plasma", "mmol/L", 22, 29, 0),
        Test("17861-6", "Calcium [Mass/volume] in Serum or Plasma", "mg/dL", 8.6, 10.2, 1),
    ),
    ("58410-2", "CBC panel - Blood by Automated count"): (
        Test("6690-2", "Leukocytes [#/volume] in Blood by Automated count", "10*3/uL", 4.5, 11.0, 1),
        Test("789-8", "Erythrocytes [#/volume] in Blood by Automated count", "10*6/uL", 4.1, 5.7, 2),
        Test("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 12.0, 17.5, 1),
        Test("4544-3", "Hematocrit [Volume Fraction] of Blood by Automated count", "%", 36.0, 50.0, 1),
        Test("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", 150, 400, 0),
    ),
    ("24331-1", "Lipid 1996 panel - Serum or Plasma"): (
        Test("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", 120, 200, 0),
        Test("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", 40, 150, 0),
        Test("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", 40, 90, 0),
        Test("13457-7", "Cholesterol in LDL [Mass/volume] in Serum or Plasma by calculation", "mg/dL", 50, 130, 0),
    ),
    ("24325-3", "Hepatic function 2000 panel - Serum or Plasma"): (
        Test("1742-6", "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 7, 56, 0),
        Test("1920-8", "Aspartate aminotransferase [Enzymatic activity/volume] in Serum or Plasma", "U/L", 10, 40, 0),
        Test("1975-2", "Bilirubin.total [Mass/volume] in Serum or Plasma", "mg/dL", 0.1, 1.2, 2),
        Test("1751-7", "Albumin [Mass/volume] in Serum or Plasma", "g/dL", 3.5, 5.5, 1),
    ),
}
SINGLE_TESTS = (
    Test("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 4.0, 5.6, 1),
    Test("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", 0.4, 4.0, 2),
    Test("1988-5", "C reactive protein [Mass/volume] in Serum or Plasma", "mg/L", 0.1, 10.0, 2),
)
CODED_TESTS = (
    ("94500-6", "SARS-CoV-2 (COVID-19) RNA [Presence] in Respiratory system specimen by NAA with probe detection"),
    ("5196-1", "Hepatitis B virus surface Ag [Presence] in Serum or Plasma by Immunoassay"),
    ("11475-1", "Microorganism identified in Specimen by Culture"),
)
CODED_RESULTS = {
    "94500-6": (("260373001", "Detected", "A"), ("260415000", "Not detected", "N")),
    "5196-1": (("10828004", "Positive", "A"), ("260385009", "Negative", "N")),
    "11475-1": (
        ("112283007", "Escherichia coli", "A"),
        ("3092008", "Staphylococcus aureus", "A"),
        ("264868006", "No growth", "N"),
    ),
}
SPECIMENS = {
    "94500-6": ("258500001", "Nasopharyngeal swab"),
    "11475-1": ("122575003", "Urine specimen"),
    "": ("119297000", "Blood specimen"),
}
CONDITIONS = (
    ("I10", "Essential (primary) hypertension", "59621000", "Essential hypertension"),
    ("E11.9", "Type 2 diabetes mellitus without complications", "44054006", "Diabetes mellitus type 2"),
    ("J45.909", "Unspecified asthma, uncomplicated", "195967001", "Asthma"),
    ("E78.5", "Hyperlipidemia, unspecified", "55822004", "Hyperlipidemia"),
    ("N39.0", "Urinary tract infection, site not specified", "68566005", "Urinary tract infectious disease"),
    ("F32.9", "Major depressive disorder, single episode, unspecified", "35489007", "Depressive disorder"),
    ("M54.50", "Low back pain, unspecified", "279039007", "Low back pain"),
)
VACCINES = (
    ("140", "Influenza, seasonal, injectable, preservative free", 0.5),
    ("115", "Tdap", 0.5),
    ("03", "MMR", 0.5),
    ("21", "varicella", 0.5),
    ("208", "COVID-19, mRNA, LNP-S, PF, 30 mcg/0.3 mL dose", 0.3),
    ("33", "pneumococcal polysaccharide PPV23", 0.5),
    ("08", "Hep B, adolescent or pediatric", 0.5),
)
DRUGS = (
    ("314076", "lisinopril 10 MG Oral Tablet"),
    ("860975", "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet"),
    ("617310", "atorvastatin 20 MG Oral Tablet"),
    ("197361", "amlodipine 5 MG Oral Tablet"),
    ("966224", "levothyroxine sodium 0.05 MG Oral Tablet"),
)
VITALS = (
    Test("8867-4", "Heart rate", "/min", 60, 100, 0),
    Test("9279-1", "Respiratory rate", "/min", 12, 20, 0),
    Test("8310-5", "Body temperature", "Cel", 36.1, 37.8, 1),
    Test("29463-7", "Body weight", "kg", 48, 110, 1),
    Test("8302-2", "Body height", "cm", 148, 195, 0),
    Test("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", 18.5, 32, 1),
)
