-- Who says the same again is written for every record of a reload: a key that refuses a second row costs more than it.
alter table fhir.said_again drop constraint said_again_pkey;
create index said_again_thing on fhir.said_again (id);
