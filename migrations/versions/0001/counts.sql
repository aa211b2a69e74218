-- How many live rows each table has, kept by triggers (see app/records/counts.py).

-- Updates are HOT (the new version of a row stays on its page), so that neither table nor index grows. A list reads one
-- row for each facet and concurrent writer.
CREATE TABLE record_counts (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    counted text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    facet text NOT NULL,
    rows bigint NOT NULL,
    PRIMARY KEY (tenant_id, counted, facet, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, fillfactor = 50);
-- The triggers count the rows of whatever tenants a statement changes, as the tables' owner.
CREATE POLICY counted ON record_counts FOR INSERT TO CURRENT_USER WITH CHECK (true);

-- Adds to a row that no other transaction is changing, or to a new one: nobody waits for anybody. Many updates in one
-- transaction leave dead row versions, which each lookup by the same key must skip: changing the key at times keeps
-- lookups short.
CREATE FUNCTION crm_add_count(tenant text, which text, part text, change bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    free record;
BEGIN
    SELECT id, xmin = pg_current_xact_id()::xid AS mine INTO free FROM record_counts
    WHERE tenant_id = tenant AND counted = which AND facet = part
    ORDER BY id DESC LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        INSERT INTO record_counts (tenant_id, counted, facet, rows) VALUES (tenant, which, part, change);
    ELSIF free.mine AND random() < 0.02 THEN
        UPDATE record_counts SET rows = rows + change, id = DEFAULT
        WHERE tenant_id = tenant AND counted = which AND facet = part AND id = free.id;
    ELSE
        UPDATE record_counts SET rows = rows + change
        WHERE tenant_id = tenant AND counted = which AND facet = part AND id = free.id;
        IF NOT free.mine AND random() < 0.01 THEN
            PERFORM crm_merge_counts(which);
        END IF;
    END IF;
END $$;

-- Leaves one row for each facet, and none where nothing is left to count. Rows that another transaction is changing
-- stay as they are.
CREATE FUNCTION crm_merge_counts(which text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    WITH free AS (
        SELECT facet, id, rows FROM record_counts
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
        FOR UPDATE SKIP LOCKED
    ),
    total AS (
        SELECT facet, max(id) AS id, sum(rows) AS rows FROM free
        GROUP BY facet HAVING count(*) > 1 OR sum(rows) = 0
    ),
    gone AS (
        DELETE FROM record_counts USING free JOIN total USING (facet)
        WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
          AND record_counts.facet = free.facet AND record_counts.id = free.id
          AND (free.id <> total.id OR total.rows = 0)
    )
    UPDATE record_counts SET rows = total.rows FROM total
    WHERE tenant_id = current_setting('crm.tenant', true) AND counted = which
      AND record_counts.facet = total.facet AND record_counts.id = total.id AND total.rows <> 0;
$$;
