-- The rows of an import that say again what only one row may say, such as an email, and which earlier row has it. They are
-- looked at in their order: a row that is left out takes nothing from those after it.
CREATE FUNCTION crm_import_clashes(import bigint) RETURNS TABLE (number integer, key text, earlier integer)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    repeating record;
    place integer;
    -- By the place of a key: the row that has it.
    holders integer[] := '{}';
    clashes boolean;
BEGIN
    FOR repeating IN
        SELECT ranked.number AS row, array_agg(ranked.place) AS places, array_agg(ranked.key) AS keys
        FROM (
            SELECT counted.number, counted.key, dense_rank() OVER (ORDER BY counted.key)::integer AS place
            FROM (
                SELECT import_rows.number, each.key, count(*) OVER (PARTITION BY each.key) AS times
                FROM import_rows CROSS JOIN LATERAL unnest(keys) AS each (key)
                WHERE import_id = import AND outcome <> 'error'
            ) AS counted WHERE times > 1
        ) AS ranked GROUP BY ranked.number ORDER BY ranked.number
    LOOP
        clashes := false;
        FOR i IN 1 .. cardinality(repeating.places) LOOP
            earlier := holders[repeating.places[i]];
            IF earlier IS NOT NULL THEN
                number := repeating.row;
                key := repeating.keys[i];
                clashes := true;
                RETURN NEXT;
            END IF;
        END LOOP;
        IF NOT clashes THEN
            FOREACH place IN ARRAY repeating.places LOOP
                holders[place] := repeating.row;
            END LOOP;
        END IF;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION crm_import_clashes(bigint) TO crm_service;
