create index delivery_name on ledger.delivery (name, feed);
