-- A record that was merged into another is in the trash and names that one, which has the ids of all that were merged into
-- it.
ALTER TABLE customers ADD COLUMN merged_into bigint, ADD COLUMN merged_ids bigint[];
ALTER TABLE contacts ADD COLUMN merged_into bigint, ADD COLUMN merged_ids bigint[];
CREATE INDEX customers_merged_into_idx ON customers (tenant_id, merged_into) WHERE merged_into IS NOT NULL;
CREATE INDEX contacts_merged_into_idx ON contacts (tenant_id, merged_into) WHERE merged_into IS NOT NULL;
-- Such a record's external_id still finds the one that was kept.
CREATE INDEX customers_merged_external_id_idx ON customers (tenant_id, external_id) WHERE merged_into IS NOT NULL;
CREATE INDEX contacts_merged_external_id_idx ON contacts (tenant_id, external_id) WHERE merged_into IS NOT NULL;

-- When a merge moves a contact with its deals, or an undo moves them back, both are moved before this is looked at.
ALTER TABLE deals ALTER CONSTRAINT deals_contact_fkey DEFERRABLE INITIALLY IMMEDIATE;

-- As in migration 0006, but what was merged into a record belongs to it too: it is the same person.
CREATE OR REPLACE FUNCTION crm_cascades() RETURNS TABLE (parent text, child text, reference text) LANGUAGE sql STABLE AS $$
    SELECT relname::text, split_part(named, '.', 1), split_part(named, '.', 2)
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid,
        unnest(string_to_array(encode(tgargs, 'escape'), '\000')) AS named
    WHERE tgfoid = 'public.crm_cascade_soft_delete()'::regprocedure AND named <> ''
    UNION ALL
    VALUES ('customers', 'customers', 'merged_into'), ('contacts', 'contacts', 'merged_into')
$$;

-- Whether a list of ids is longer than another; null is empty.
CREATE FUNCTION crm_has_more(ids jsonb, others jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN jsonb_array_length(CASE jsonb_typeof(ids) WHEN 'array' THEN ids ELSE '[]' END)
    > jsonb_array_length(CASE jsonb_typeof(others) WHEN 'array' THEN others ELSE '[]' END);
GRANT EXECUTE ON FUNCTION crm_has_more(jsonb, jsonb) TO crm_service, crm_search, crm_maintenance;

-- As in migration 0002, but a change by which others were merged into a record is called `merge`.
CREATE OR REPLACE FUNCTION crm_audit() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET enable_nestloop = off AS $$
DECLARE
    actor record;
    left_out text[] := TG_ARGV[1];
BEGIN
    SELECT * INTO actor FROM jsonb_to_record(coalesce(nullif(current_setting('crm.actor', true), '')::jsonb, '{}')) AS
        given (user_id text, user_name text, user_role text, ip_address text, user_agent text, request_id text,
               operation_id uuid, via text, removal text);
    IF actor.removal NOT IN ('purge', 'erase') THEN
        actor.removal := NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, version, new_values, salt, new_digest,
            user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
        SELECT tenant_id, TG_ARGV[0], id, 'create', version, new_values, salt, crm_values_digest(salt, new_values),
            actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
            actor.operation_id, actor.via
        FROM (
            SELECT tenant_id, id, version, to_jsonb(new_row) - left_out AS new_values,
                   uuid_send(gen_random_uuid()) AS salt
            FROM new_rows AS new_row WHERE TG_NARGS < 3 OR to_jsonb(new_row) ->> TG_ARGV[2] IS NULL
            OFFSET 0  -- what is computed here is computed once
        ) AS rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, version, old_values, salt, old_digest,
            user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
        SELECT tenant_id, TG_ARGV[0], id, coalesce(actor.removal, 'delete'), version, old_values, salt,
            crm_values_digest(salt, old_values),
            actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
            actor.operation_id, actor.via
        FROM (
            SELECT tenant_id, id, version, uuid_send(gen_random_uuid()) AS salt,
                   CASE WHEN actor.removal IS NULL THEN to_jsonb(old_row) - left_out END AS old_values
            FROM old_rows AS old_row OFFSET 0
        ) AS rows;
    ELSE
        INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, version, old_values, new_values,
            salt, old_digest, new_digest,
            user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
        SELECT tenant_id, TG_ARGV[0], id, action, version, was, changed,
            salt, crm_values_digest(salt, was), crm_values_digest(salt, changed),
            actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
            actor.operation_id, actor.via
        FROM (
            SELECT *, uuid_send(gen_random_uuid()) AS salt, CASE WHEN action = 'delete' THEN old_values
                ELSE (SELECT jsonb_object_agg(key, old_values -> key) FROM jsonb_object_keys(changed) AS key) END AS was
            FROM (
                SELECT *, CASE
                    WHEN jsonb_typeof(changed -> 'deleted_at') = 'string' THEN 'delete'
                    WHEN changed ? 'deleted_at' THEN 'restore'
                    WHEN crm_has_more(changed -> 'merged_ids', old_values -> 'merged_ids') THEN 'merge'
                    ELSE 'update' END AS action
                FROM (
                    SELECT tenant_id, id, version, old_values, (
                        SELECT jsonb_object_agg(key, value) FROM jsonb_each(new_values)
                        WHERE value IS DISTINCT FROM old_values -> key
                    ) AS changed
                    FROM (
                        SELECT old_row.tenant_id, old_row.id, new_row.version,
                               to_jsonb(old_row) - left_out AS old_values, to_jsonb(new_row) - left_out AS new_values
                        FROM old_rows AS old_row JOIN new_rows AS new_row
                            ON new_row.tenant_id = old_row.tenant_id AND new_row.id = old_row.id
                        OFFSET 0
                    ) AS rows
                    OFFSET 0
                ) AS changes
                WHERE changed IS NOT NULL
            ) AS actions
            OFFSET 0
        ) AS entries ORDER BY id;
    END IF;
    RETURN NULL;
END $$;

