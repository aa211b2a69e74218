-- A run of an import that has come to its end is in the audit log, with its figures. The entry is not one of the run's
-- operation: there is nothing in it to take back.
CREATE FUNCTION crm_log_import(import bigint, details jsonb) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
    new_salt CONSTANT bytea := uuid_send(gen_random_uuid());
    actor record;
BEGIN
    IF jsonb_typeof(details) IS DISTINCT FROM 'object' OR octet_length(details::text) > 4096 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'the figures of an import are a small object';
    END IF;
    IF NOT EXISTS (SELECT FROM imports WHERE tenant_id = tenant AND id = import AND status = 'done') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no such import of the tenant is done';
    END IF;
    SELECT * INTO actor FROM jsonb_to_record(coalesce(nullif(current_setting('crm.actor', true), '')::jsonb, '{}')) AS
        given (user_id text, user_name text, user_role text, ip_address text, user_agent text, request_id text, via text);
    INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values, salt, new_digest,
        user_id, user_name, user_role, ip_address, user_agent, request_id, via)
    VALUES (tenant, 'import', import, 'import', details, new_salt, crm_values_digest(new_salt, details),
        actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
        actor.via);
END $$;
GRANT EXECUTE ON FUNCTION crm_log_import(bigint, jsonb) TO crm_service;
