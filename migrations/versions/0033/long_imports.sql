-- Deletes imports that nobody did anything with for so many days, at most so many of their rows at a time; answers how much
-- it deleted.
CREATE OR REPLACE FUNCTION crm_prune_imports(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    old record;
BEGIN
    SELECT tenant_id, id INTO old FROM imports
    WHERE updated_at < now() - make_interval(days => greatest(days, 1)::integer)
        AND status NOT IN ('checking', 'running')
    ORDER BY updated_at LIMIT 1;
    IF NOT FOUND THEN
        count := 0;
        RETURN;
    END IF;
    -- Nobody can run it any more without a check: that would be a run of some of its rows.
    UPDATE imports SET status = 'failed' WHERE tenant_id = old.tenant_id AND id = old.id AND status <> 'failed';
    DELETE FROM import_rows WHERE tenant_id = old.tenant_id AND import_id = old.id AND number IN (
        SELECT number FROM import_rows WHERE tenant_id = old.tenant_id AND import_id = old.id ORDER BY number LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
    IF count < most THEN
        DELETE FROM imports WHERE tenant_id = old.tenant_id AND id = old.id;
        count := count + 1;
    END IF;
END $$;
