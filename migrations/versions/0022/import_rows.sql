-- What a check found of each row of an import: what the run will do with it, and with which values.
CREATE TABLE import_rows (
    tenant_id varchar(64) NOT NULL,
    import_id bigint NOT NULL,
    -- As a spreadsheet counts.
    number integer NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('create', 'update', 'unchanged', 'skip', 'error')),
    -- The record that it matches, and the version that this had; once it has run, the one that it made.
    record_id bigint,
    version integer,
    -- What is written, and what these fields were before, by the names of the columns. A record that has to be made
    -- first is in it by its name: new_customer, new_tags.
    document jsonb,
    before jsonb,
    problems jsonb,
    -- What only one row of the file may say, such as an email.
    keys text[],
    CONSTRAINT import_rows_pkey PRIMARY KEY (tenant_id, import_id, number),
    CONSTRAINT import_rows_import_fkey FOREIGN KEY (tenant_id, import_id) REFERENCES imports (tenant_id, id)
        ON DELETE CASCADE
);
CREATE INDEX import_rows_outcome_idx ON import_rows (tenant_id, import_id, outcome, number);
GRANT SELECT, INSERT, UPDATE, DELETE ON import_rows TO crm_service;

-- The contacts of the transaction's organization that have these emails. Under row-level security, the folding of an
-- email would keep the search from its index.
CREATE INDEX contacts_email_idx ON contacts (tenant_id, crm_fold_email(email)) WHERE deleted_at IS NULL;
CREATE FUNCTION crm_find_contacts(emails text[]) RETURNS TABLE (email text, id bigint) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
BEGIN ATOMIC
    SELECT wanted.email, contacts.id FROM unnest(emails) AS wanted (email) JOIN contacts
        ON contacts.tenant_id = current_setting('crm.tenant')
        AND crm_fold_email(contacts.email) = crm_fold_email(wanted.email) AND contacts.deleted_at IS NULL;
END;
GRANT EXECUTE ON FUNCTION crm_find_contacts(text[]) TO crm_service;

-- An import whose job fails, or is cancelled, says so, and can be planned again.
CREATE FUNCTION crm_end_import() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE imports SET status = 'failed', updated_at = now()
    WHERE tenant_id = NEW.tenant_id AND job_id = NEW.id AND status IN ('checking', 'running');
    RETURN NULL;
END $$;
CREATE TRIGGER import AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.finished_at IS NULL AND NEW.status IN ('failed', 'cancelled') AND NEW.kind IN ('import_check', 'import_run'))
    EXECUTE FUNCTION crm_end_import();

-- What imports have of records that are erased: the rows of the file, with all that it says of others, too, and what was
-- found of these records.
CREATE FUNCTION crm_forget_imports(tenant text, tree jsonb) RETURNS void LANGUAGE plpgsql AS $$
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
    UPDATE imports SET object_key = NULL, columns = '[]', mapping = NULL, options = NULL
    WHERE tenant_id = tenant AND id = ANY (found);
END $$;
