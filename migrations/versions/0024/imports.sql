-- As in migration 0022, and what was found in rows that are wrong goes too: they may be about the same people, as a row
-- with the email of another one is.
CREATE OR REPLACE FUNCTION crm_forget_imports(tenant text, tree jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found bigint[];
BEGIN
    WITH forgotten AS (
        UPDATE import_rows AS mine SET document = NULL, before = NULL, problems = NULL, keys = NULL
        FROM imports, crm_named(tree) AS gone
        WHERE mine.tenant_id = tenant AND imports.tenant_id = tenant AND imports.id = mine.import_id
            AND crm_kind(imports.kind) = gone.kind AND mine.record_id = gone.id
        RETURNING mine.import_id
    )
    SELECT array_agg(DISTINCT import_id) INTO found FROM forgotten;
    UPDATE import_rows SET document = NULL, problems = NULL, keys = NULL
    WHERE tenant_id = tenant AND import_id = ANY (found) AND outcome = 'error';
    UPDATE imports SET object_key = NULL, columns = '[]', remarks = '[]', mapping = NULL, options = NULL,
        file_name = 'erased'
    WHERE tenant_id = tenant AND id = ANY (found);
END $$;
