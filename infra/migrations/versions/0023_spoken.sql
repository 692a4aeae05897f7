-- Who is spoken of is written once a record and patient; a key that refuses a second row costs more than such a row does.
alter table ledger.record_patient drop constraint record_patient_pkey;
create index record_patient_patient on ledger.record_patient (patient, record_id);
comment on table ledger.record_patient is 'Which record speaks of which patients, erased ones excepted; more than once where a record was staged again';
