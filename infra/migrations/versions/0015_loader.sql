-- The loader: what flows, listeners and commands connect as. It reads and writes rows; it makes, changes and drops nothing.
do $$ begin
    if not exists (select from pg_roles where rolname = 'sluice_loader') then
        begin
            create role sluice_loader nologin;
        exception when insufficient_privilege or duplicate_object or unique_violation then
            -- a database administrator makes it and grants what stands below
            null;
        end;
    end if;
    if exists (select from pg_roles where rolname = 'sluice_loader') then
        grant usage on schema ledger, fhir, staging, core, mart, ops, restricted to sluice_loader;
        grant select, insert, update, delete on all tables in schema ledger, fhir, staging, core, mart, ops, restricted
            to sluice_loader;
        grant usage, select, update on all sequences in schema ledger to sluice_loader;
        alter default privileges in schema ledger, fhir, staging, core, mart, ops, restricted
            grant select, insert, update, delete on tables to sluice_loader;
        alter default privileges in schema ledger grant usage, select, update on sequences to sluice_loader;
        -- the trail is added to, and never changed
        revoke update, delete on ledger.audit from sluice_loader;
    end if;
end $$;

-- partitions are the owner's to make, whoever asks
alter function ledger.ensure_partitions(int) security definer set search_path = pg_catalog, pg_temp;
