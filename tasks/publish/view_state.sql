-- What is known of the tables of core, beside themselves. Run by their owner before any of them is made.
CREATE SCHEMA IF NOT EXISTS core;
CREATE SCHEMA IF NOT EXISTS ops;
CREATE TABLE IF NOT EXISTS ops.view_definition (name text PRIMARY KEY);
ALTER TABLE ops.view_definition
    ADD COLUMN IF NOT EXISTS resource_type text, ADD COLUMN IF NOT EXISTS hash text, ADD COLUMN IF NOT EXISTS key text,
    ADD COLUMN IF NOT EXISTS refresh_sql text, ADD COLUMN IF NOT EXISTS built_at timestamptz,
    ADD COLUMN IF NOT EXISTS problem text, ADD COLUMN IF NOT EXISTS building text,
    ADD COLUMN IF NOT EXISTS building_type text;
COMMENT ON TABLE ops.view_definition IS 'Which definition each table of core was built from, and how it is kept';
COMMENT ON COLUMN ops.view_definition.hash IS 'Hash of the definition that it shows; null where it must be built';
COMMENT ON COLUMN ops.view_definition.key IS 'Its column of the resource''s id';
COMMENT ON COLUMN ops.view_definition.refresh_sql IS 'Inserts the rows of the resources in sluice_changed (id)';
COMMENT ON COLUMN ops.view_definition.problem IS 'Why the table could not be kept; it shows the store as it was then';
COMMENT ON COLUMN ops.view_definition.building IS 'Hash of the definition that a new table is being built from';
COMMENT ON COLUMN ops.view_definition.name IS 'Name in the schema core';
COMMENT ON COLUMN ops.view_definition.resource_type IS 'Type of the resources that it shows';
COMMENT ON COLUMN ops.view_definition.built_at IS 'When it was built';
COMMENT ON COLUMN ops.view_definition.building_type IS 'Type of the resources that a table being built shows';
CREATE TABLE IF NOT EXISTS ops.view_backlog (
    name text NOT NULL, resource_type text NOT NULL, id text COLLATE "C" NOT NULL, PRIMARY KEY (name, id));
COMMENT ON TABLE ops.view_backlog IS 'Resources published while a table of core is being built';
COMMENT ON COLUMN ops.view_backlog.name IS 'Name in the schema core';
COMMENT ON COLUMN ops.view_backlog.resource_type IS 'FHIR resource type';
COMMENT ON COLUMN ops.view_backlog.id IS 'Id of the resource';
CREATE TABLE IF NOT EXISTS ops.view_rows (
    name text NOT NULL, delivery_id bigint NOT NULL, rows bigint NOT NULL, PRIMARY KEY (name, delivery_id));
COMMENT ON TABLE ops.view_rows IS 'How many rows of each table of core come from each delivery, kept with them';
COMMENT ON COLUMN ops.view_rows.name IS 'Name in the schema core; with __new of a table that is being built';
COMMENT ON COLUMN ops.view_rows.delivery_id IS 'Number of the delivery: record_id >> 32';
COMMENT ON COLUMN ops.view_rows.rows IS 'Its rows';

-- Partitions are the owner's to make, whoever asks: upkeep runs as the loader.
CREATE OR REPLACE FUNCTION ops.divide(relation regclass, fewest int DEFAULT 1000, years int[] DEFAULT '{}')
RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    parent text;
    moment text;
    rest regclass;
    this_year int := extract(year from now());
    year int;
    part text;
    first timestamptz;
    past timestamptz;
    made int := 0;
BEGIN
    SELECT c.relname, a.attname, p.partdefid INTO parent, moment, rest
    FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid = relation AND c.relnamespace = to_regnamespace('core');
    FOR year IN EXECUTE format(
        'SELECT year FROM (
             SELECT extract(year from %1$I)::int AS year, count(*) AS rows FROM %2$s
             WHERE %1$I >= ''1900-01-01'' AND %1$I < make_timestamptz($1 + 2, 1, 1, 0, 0, 0) GROUP BY 1
         ) found WHERE rows >= $2 UNION SELECT unnest($3) UNION SELECT $1 ORDER BY 1', moment, rest)
        USING this_year, fewest, years
    LOOP
        part := format('%s_%s', left(parent, 55), year);
        CONTINUE WHEN to_regclass(format('core.%I', part)) IS NOT NULL;
        first := make_timestamptz(year, 1, 1, 0, 0, 0);
        past := make_timestamptz(year + 1, 1, 1, 0, 0, 0);
        EXECUTE format('CREATE TABLE core.%I (LIKE %s INCLUDING DEFAULTS)', part, relation);
        EXECUTE format('WITH moved AS (DELETE FROM %s WHERE %I >= %L AND %I < %L RETURNING *)
                        INSERT INTO core.%I SELECT * FROM moved', rest, moment, first, moment, past, part);
        EXECUTE format('ALTER TABLE %s ATTACH PARTITION core.%I FOR VALUES FROM (%L) TO (%L)', relation, part, first, past);
        EXECUTE format('ANALYZE core.%I', part);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
COMMENT ON FUNCTION ops.divide IS
    'Gives years of a divided table of core parts of their own: this one, the named ones, and those of which the default part holds many rows; returns how many it made';
REVOKE ALL ON FUNCTION ops.divide FROM PUBLIC;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_loader') THEN
        GRANT EXECUTE ON FUNCTION ops.divide TO sluice_loader;
    END IF;
END $$;
