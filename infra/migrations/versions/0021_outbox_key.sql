-- One index finds a row of the outbox by its resource and is its key: a second one was written for every row.
alter table ledger.outbox drop constraint outbox_pkey;
alter table ledger.outbox add constraint outbox_pkey primary key (id, resource_type, destination);
drop index ledger.outbox_resource;
