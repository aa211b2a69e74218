-- Files of rows that somebody has sent to make records of. The rows themselves are in the object store; the file as it was
-- sent is not kept.
CREATE TABLE imports (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    id bigint GENERATED ALWAYS AS IDENTITY,
    kind text NOT NULL,
    status text NOT NULL DEFAULT 'uploaded',
    user_id text NOT NULL,
    user_name text,
    file_name varchar(255) NOT NULL,
    format text NOT NULL,
    encoding text,
    delimiter text,
    sheet text,
    header boolean NOT NULL,
    rows bigint NOT NULL CHECK (rows > 0),
    -- Their names, some of their values, our guesses, and what their values prove.
    columns jsonb NOT NULL,
    remarks jsonb NOT NULL DEFAULT '[]',
    -- Null once somebody is erased whom the rows name.
    object_key text,
    -- What is to be done with the rows, and what would come of it.
    mapping jsonb,
    options jsonb,
    summary jsonb,
    job_id bigint,
    operation_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT imports_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT imports_object_key UNIQUE (tenant_id, object_key)
);
CREATE INDEX imports_created_at_idx ON imports (tenant_id, created_at, id);
CREATE INDEX imports_user_id_idx ON imports (tenant_id, user_id, created_at, id);
CREATE INDEX imports_updated_at_idx ON imports (updated_at);

CREATE POLICY maintenance ON imports TO crm_maintenance USING (true);
GRANT SELECT (tenant_id, id, status, object_key, created_at, updated_at), DELETE ON imports TO crm_maintenance;
GRANT INSERT ON removed_objects TO crm_maintenance;

-- The rows go with their import.
CREATE FUNCTION crm_remove_import_object() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO removed_objects (tenant_id, object_key) VALUES (OLD.tenant_id, OLD.object_key) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER remove_object AFTER DELETE ON imports FOR EACH ROW
    WHEN (OLD.object_key IS NOT NULL) EXECUTE FUNCTION crm_remove_import_object();
CREATE TRIGGER remove_former_object AFTER UPDATE OF object_key ON imports FOR EACH ROW
    WHEN (OLD.object_key IS NOT NULL AND OLD.object_key IS DISTINCT FROM NEW.object_key)
    EXECUTE FUNCTION crm_remove_import_object();

-- Deletes imports that nobody has done anything with for so many days; answers how many.
CREATE FUNCTION crm_prune_imports(days bigint, most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM imports WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM imports
        WHERE updated_at < now() - make_interval(days => greatest(days, 1)::integer)
            AND status NOT IN ('checking', 'running')
        ORDER BY updated_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
GRANT EXECUTE ON FUNCTION crm_prune_imports(bigint, bigint) TO crm_service;
