"""Invented samples in the shapes that hospitals and laboratories send: name → bytes."""

from __future__ import annotations

SAMPLES: dict[str, bytes] = {
    "labs": b"PatientID,Accession,TestCode,TestName,Result,Units,RefRange,Flag,ResultStatus,CollectedAt\n"
    b"100,A1,2345-7,Glucose,5.4,mmol/L,3.9-5.6,N,F,2026-03-01 08:15\n"
    b"100,A1,718-7,Hemoglobin,141,g/L,120-160,N,F,2026-03-01 08:15\n"
    b"101,A2,2345-7,Glucose,<1,mmol/L,3.9-5.6,L,C,2026-03-01 09:00\n"
    b'101,A3,5802-4,"Nitrite, urine",neg,,,,P,2026-03-02 07:30\n',
    "befunde": "Patientennummer;Auftragsnummer;Testcode;Bezeichnung;Ergebnis;Einheit;Status;Entnahmezeit\r\n"
    "4711;B-1;GLU;Glukose;5,4;mmol/l;F;01.03.2026 08:15\r\n"
    "4711;B-1;HB;Hämoglobin;14,1;g/dl;F;01.03.2026 08:15\r\n"
    "4712;B-2;KREA;Kreatinin;0,93;mg/dl;P;02.03.2026 10:40\r\n".encode("cp1252"),
    "patients": b"MRN|LastName|FirstName|DOB|Sex|Phone|Address|City|State|Zip\n"
    b"0001|Doe|Jane|03/13/1980|F|2125550101|1 Main St|New York|NY|10001\n"
    b"0002|Roe|John|12/31/1975|M|||Albany|NY|12207\n",
    "patienten": "Patienten-ID;Nachname;Vorname;Geburtsdatum;Geschlecht;Stra\u00dfe;PLZ;Ort;Telefon\r\n"
    "1;M\u00fcller;J\u00fcrgen;31.12.1960;M;Hauptstr. 1;01067;Dresden;0351 1234\r\n"
    "2;Schmidt;Anna;01.02.1999;F;Am Ring 5;04109;Leipzig;\r\n".encode("latin-1"),
    "patients_fr": "identifiant\tnom\tpr\u00e9nom\tdate de naissance\tsexe\tcode postal\tville\n"
    "17\tDupont\tZo\u00e9\t14/07/1989\tF\t75011\tParis\n18\tMartin\tLuc\t02/01/1970\tM\t69001\tLyon\n".encode("utf-16"),
    "pacientes": "\ufeffhistoria;apellidos;nombre;fecha_nacimiento;sexo;telefono;correo\n"
    "55;Garc\u00eda L\u00f3pez;Mar\u00eda;1990-05-17;F;600111222;m@example.org\n"
    "56;P\u00e9rez;Juan;1961-10-02;M;600111333;\n".encode(),
    "encounters": b"VisitID,PatientID,Class,Status,AdmitDate,DischargeDate,Location\n"
    b"V1,100,I,finished,2026-03-01 08:15,2026-03-04 11:00,3 West\nV2,101,E,arrived,2026-03-02 10:40,,ED\n"
    b"V3,100,O,planned,2026-04-02 09:00,,Clinic\n",
    "aufenthalte": b"Fallnummer;Patientennummer;Aufnahmedatum;Entlassdatum;Station\n"
    b"F1;4711;01.03.2026 08:15;04.03.2026 11:00;3W\nF2;4712;02.03.2026 10:40;;ITS\n",
    "immunizations": b"patient_id,vaccine_code,vaccine_name,administered_date,lot_number,site,status\n"
    b"100,207,COVID-19 mRNA,2025-10-01,X123,LA,completed\n101,141,Influenza,2025-10-02,Y9,RA,not-done\n"
    b"100,141,Influenza,2025-10-03,Y9,RA,completed\n",
    "medications": b"PatientID,OrderNumber,DrugCode,DrugName,Dose,Frequency,StartDate,EndDate,Status\n"
    b"100,RX1,197361,Amlodipine 5 MG,5 mg,daily,2026-03-01,,active\n"
    b"101,RX2,860975,Metformin 500 MG,500 mg,bid,2026-03-02,2026-06-01,completed\n",
    "no_header": b"100,2345-7,5.4,mmol/L,2026-03-01\n101,718-7,14.1,g/dL,2026-03-02\n102,718-7,13.2,g/dL,2026-03-02\n",
    "trailer": b"id,code,result,date\n1,a,5,2026-01-01\n2,b,6,2026-01-02\n3,c,7,2026-01-03\nTRAILER,3\n",
    "many_lines": b'mrn,note,date\r\n1,"first\r\nsecond, ""quoted""",2026-01-01\r\n2,"",2026-01-02\r\n',
    "odd_names": b'"Pat. Nr.","Wert (mg/dl)","Datum/Zeit"\n"1","1,5","2026-01-01T10:00:00Z"\n'
    b'"2","2,5","2026-01-02T10:00:00Z"\n',
}  # fmt: skip
