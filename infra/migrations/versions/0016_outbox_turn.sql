-- What is due is found in the order of its turn: an index by time alone is written for every row and never read.
drop index ledger.outbox_pending;
