"""What columns are called, in English, German, French, Spanish, Italian and Dutch, and what their codes mean.

Names are compared without case, accents, spaces and punctuation. Only words from here are ever written into a draft:
what a cell says otherwise may be anybody's.
"""

from __future__ import annotations

import unicodedata

_ROLES = """
mrn: mrn patientid patid patientnumber patientno medicalrecordnumber pid memberid personid patientennummer patientennr
  patientenid patnr patid patnummer identifiantpatient identifiant ipp numeropatient historia historiaclinica nhc
  idpaciente idpaziente codicepaziente patientnummer
family: lastname familyname surname patientlastname nachname familienname name nom nomdefamille apellido apellidos
  cognome achternaam
given: firstname givenname forename patientfirstname vorname prenom nombre nome voornaam
birth: birthdate dob dateofbirth birthday geburtsdatum gebdatum datedenaissance ddn fechanacimiento fechadenacimiento
  datadinascita geboortedatum
sex: sex gender geschlecht sexe sexo sesso geslacht
phone: phone homephone telephone phonenumber mobile mobilephone telefon telefono telephon telefoon tel mobil
email: email mail emailaddress correo courriel
street: street address addressline1 address1 strasse adresse direccion calle indirizzo straat
city: city town ort stadt wohnort ville ciudad citta plaats
state: state province bundesland provincia
zip: zip zipcode postalcode postcode plz postleitzahl codepostal codigopostal cap
test: loinc loinccode testcode resultcode observationcode code analyte analytcode untersuchungscode codetest
  codeanalyse codigoprueba codiceesame
testname: testname testdescription analytename bezeichnung analyse untersuchung libelle prueba esame resultname
value: value result resultvalue observationvalue ergebnis wert messwert resultat valeur resultado valor risultato waarde
  uitslag
unit: unit units uom einheit unite unidad unidades unita eenheid
order: accession accessionnumber ordernumber orderid specimenid labnumber auftragsnummer auftragsnr probennummer
  numerodemande prescriptionnumber rxnumber
news: updatedat lastupdated modifiedat resultedat reportedat releasedat timestamp befunddatum
when: collectedat collected collectiondate collectiontime observedat resultdate date entnahmezeit entnahmedatum
  abnahmezeit datum datumzeit dateprelevement fecha fecharesultado data
status: status resultstatus observationstatus orderstatus statut estado stato
visit: visitid visitnumber encounterid encounternumber csn admissionid fallnummer fallnr aufenthaltsnummer
  numeroepisodio numerosejour
class: class patientclass encounterclass visittype fallart
admit: admitdate admissiondate admittime admitdatetime admittedat aufnahmedatum aufnahmezeit dateadmission dateentree
  fechaingreso
discharge: dischargedate dischargetime dischargedatetime dischargedat entlassdatum entlasszeit entlassungsdatum
  datesortie fechaalta
vaccine: vaccinecode cvx cvxcode vaccine impfstoffcode
vaccinename: vaccinename vaccinedescription impfstoff vaccin vacuna
given_at: administereddate dateadministered administrationdate vaccinationdate immunizationdate impfdatum
  datevaccination fechavacunacion
lot: lotnumber lot lotno chargennummer charge lote
drug: drugcode medicationcode rxnorm ndc atc atccode pzn din
drugname: drugname medication medicationname drug medikament wirkstoff medicament medicamento
start: startdate starttime startedat ordereddate orderdate beginn startdatum datedebut fechainicio
"""

STATUS: dict[str, dict[str, str]] = {
    "Observation": {
        "final": "final", "f": "final", "preliminary": "preliminary", "p": "preliminary", "corrected": "corrected",
        "c": "corrected", "amended": "amended", "a": "amended", "cancelled": "cancelled", "canceled": "cancelled",
        "x": "cancelled", "registered": "registered", "i": "registered", "complete": "final", "completed": "final",
        "endbefund": "final", "vorbefund": "preliminary", "definitif": "final", "provisoire": "preliminary",
        "definitivo": "final", "provisional": "preliminary",
    },
    "Encounter": {
        "planned": "planned", "arrived": "arrived", "triaged": "triaged", "in-progress": "in-progress",
        "in progress": "in-progress", "active": "in-progress", "admitted": "in-progress", "onleave": "onleave",
        "finished": "finished", "completed": "finished", "discharged": "finished", "cancelled": "cancelled",
        "canceled": "cancelled",
    },
    "Immunization": {
        "completed": "completed", "complete": "completed", "given": "completed", "administered": "completed",
        "not-done": "not-done", "refused": "not-done", "not done": "not-done", "entered-in-error": "entered-in-error",
    },
    "MedicationRequest": {
        "active": "active", "completed": "completed", "stopped": "stopped", "discontinued": "stopped",
        "on-hold": "on-hold", "on hold": "on-hold", "cancelled": "cancelled", "canceled": "cancelled", "draft": "draft",
    },
}  # fmt: skip
"""By resource type what a status column's words mean."""

CLASSES = {
    "i": "IMP", "inpatient": "IMP", "imp": "IMP", "e": "EMER", "emergency": "EMER", "emer": "EMER", "ed": "EMER",
    "o": "AMB", "outpatient": "AMB", "amb": "AMB", "ambulatory": "AMB", "station\u00e4r": "IMP", "ambulant": "AMB",
    "teilstation\u00e4r": "SS", "notfall": "EMER",
}  # fmt: skip
"""What words for a kind of visit mean in HL7's ActCode."""

SEXES = {
    "m": "male", "f": "female", "w": "female", "d": "other", "x": "other", "u": "unknown", "o": "other", "a": "other",
    "n": "unknown", "h": "male", "v": "female", "male": "male", "female": "female", "unknown": "unknown",
    "other": "other", "m\u00e4nnlich": "male", "weiblich": "female", "divers": "other", "homme": "male",
    "femme": "female", "hombre": "male", "mujer": "female",
}  # fmt: skip


def plain(name: str) -> str:
    """Return a column's name as it is looked up here."""
    letters = unicodedata.normalize("NFKD", name.casefold().replace("\u00df", "ss"))
    return "".join(letter for letter in letters if letter.isalnum())


def _read() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    role = ""
    for word in _ROLES.split():
        if word.endswith(":"):
            role = word[:-1]
        else:
            found.setdefault(role, []).append(word)
    return {name: tuple(words) for name, words in found.items()}


ROLES = _read()
"""What a column may mean → what it is called."""

KNOWN = frozenset(word for words in ROLES.values() for word in words)
"""Every name above."""

TRAILERS = frozenset({"trailer", "trl", "footer", "eof", "end", "total", "count", "summe", "ende", "fin", "anzahl"})
"""How the first cell of a row begins that counts the others."""
