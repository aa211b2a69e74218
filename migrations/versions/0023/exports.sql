-- Exports are in the audit log. An export is of many records, or of one and all that belongs to it, so its entry names
-- none: its resource_id is 0, and the history of a record has changes only.
CREATE FUNCTION crm_log_export(kind text, details jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
    new_salt CONSTANT bytea := uuid_send(gen_random_uuid());
    actor record;
BEGIN
    IF coalesce(tenant, '') = '' OR jsonb_typeof(details) IS DISTINCT FROM 'object' OR octet_length(details::text) > 65536 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an export is of a tenant, and its details are a small object';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgname = 'audit_update' AND split_part(encode(tgargs, 'escape'), '\000', 1) = kind
    ) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no records of this kind are in the audit log';
    END IF;
    SELECT * INTO actor FROM jsonb_to_record(coalesce(nullif(current_setting('crm.actor', true), '')::jsonb, '{}')) AS
        given (user_id text, user_name text, user_role text, ip_address text, user_agent text, request_id text,
               operation_id uuid, via text);
    INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values, salt, new_digest,
        user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
    VALUES (tenant, kind, 0, 'export', details, new_salt, crm_values_digest(new_salt, details),
        actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
        actor.operation_id, actor.via);
END $$;
GRANT EXECUTE ON FUNCTION crm_log_export(text, jsonb) TO crm_service;

-- An archive is a file of a job, with its content in the object store for some days. The key is null once the object is
-- to be deleted; it names the tenant, so that nobody can have another tenant's objects deleted.
ALTER TABLE job_files
    ADD COLUMN object_key text,
    ADD COLUMN size bigint,
    ADD COLUMN expires_at timestamptz,
    ADD CONSTRAINT job_files_object_check CHECK (
        starts_with(object_key, 'exports/' || encode(sha256(convert_to(tenant_id, 'UTF8')), 'hex') || '/')
    );
CREATE INDEX job_files_expires_at_idx ON job_files (expires_at) WHERE object_key IS NOT NULL;
CREATE POLICY maintenance ON job_files TO crm_maintenance USING (true);
GRANT UPDATE (object_key, size) ON job_files TO crm_service;
GRANT SELECT (tenant_id, job_id, object_key, expires_at), UPDATE (object_key) ON job_files TO crm_maintenance;

CREATE FUNCTION crm_remove_archive() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO removed_objects (tenant_id, object_key) VALUES (OLD.tenant_id, OLD.object_key) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER archive AFTER DELETE ON job_files FOR EACH ROW WHEN (OLD.object_key IS NOT NULL)
    EXECUTE FUNCTION crm_remove_archive();
CREATE TRIGGER archive_update AFTER UPDATE OF object_key ON job_files FOR EACH ROW
    WHEN (OLD.object_key IS NOT NULL AND OLD.object_key IS DISTINCT FROM NEW.object_key)
    EXECUTE FUNCTION crm_remove_archive();

-- An archive has everything: so it goes when anything is erased. Of an erasure's entries, the one that says so has values.
CREATE FUNCTION crm_empty_archives() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE job_files SET object_key = NULL WHERE tenant_id = NEW.tenant_id AND object_key IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER archives AFTER INSERT ON audit_entries FOR EACH ROW
    WHEN (NEW.action = 'erase' AND NEW.new_values IS NOT NULL)
    EXECUTE FUNCTION crm_empty_archives();

-- Lets the objects of archives be deleted that are old enough; answers how many.
CREATE FUNCTION crm_drop_old_archives(most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE job_files SET object_key = NULL WHERE (tenant_id, job_id) IN (
        SELECT tenant_id, job_id FROM job_files
        WHERE object_key IS NOT NULL AND expires_at <= now() ORDER BY expires_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
GRANT EXECUTE ON FUNCTION crm_drop_old_archives(bigint) TO crm_service;
