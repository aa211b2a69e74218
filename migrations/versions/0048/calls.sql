-- A call of another service's tool is in the audit log, before it is made: which tool, and nothing of what was sent.
CREATE FUNCTION crm_log_call(server bigint, tool text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
    new_salt CONSTANT bytea := uuid_send(gen_random_uuid());
    details CONSTANT jsonb := jsonb_build_object('tool', tool);
    actor record;
BEGIN
    IF tool IS NULL OR length(tool) > 128 OR NOT EXISTS (
        SELECT FROM mcp_servers WHERE tenant_id = tenant AND id = server
    ) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no such server of the tenant, or no such tool';
    END IF;
    SELECT * INTO actor FROM jsonb_to_record(coalesce(nullif(current_setting('crm.actor', true), '')::jsonb, '{}')) AS
        given (user_id text, user_name text, user_role text, ip_address text, user_agent text, request_id text,
               operation_id uuid, via text);
    INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values, salt, new_digest,
        user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
    VALUES (tenant, 'mcp_server', server, 'call', details, new_salt, crm_values_digest(new_salt, details),
        actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
        actor.operation_id, actor.via);
END $$;
GRANT EXECUTE ON FUNCTION crm_log_call(bigint, text) TO crm_service;
