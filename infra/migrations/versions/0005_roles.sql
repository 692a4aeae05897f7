-- Least privilege: who reads what. The roles cannot log in; a site grants them to its people.
do $$
declare
    role text;
begin
    foreach role in array array['sluice_analyst', 'sluice_ops', 'sluice_mapper'] loop
        if not exists (select from pg_roles where rolname = role) then
            begin
                execute format('create role %I nologin', role);
            exception when insufficient_privilege or duplicate_object or unique_violation then
                -- a database administrator makes it and grants what stands below
                null;
            end;
        end if;
    end loop;
    if exists (select from pg_roles where rolname = 'sluice_analyst') then
        grant usage on schema core, mart to sluice_analyst;
        grant select on all tables in schema core, mart to sluice_analyst;
        alter default privileges in schema core grant select on tables to sluice_analyst;
        alter default privileges in schema mart grant select on tables to sluice_analyst;
    end if;
    if exists (select from pg_roles where rolname = 'sluice_ops') then
        grant usage on schema ledger, ops to sluice_ops;
        grant select on all tables in schema ledger, ops to sluice_ops;
        alter default privileges in schema ledger grant select on tables to sluice_ops;
        alter default privileges in schema ops grant select on tables to sluice_ops;
    end if;
    if exists (select from pg_roles where rolname = 'sluice_mapper') then
        grant usage on schema restricted to sluice_mapper;
        grant select on all tables in schema restricted to sluice_mapper;
    end if;
end $$;
revoke all on schema ledger, fhir, staging, core, mart, ops, restricted from public;
