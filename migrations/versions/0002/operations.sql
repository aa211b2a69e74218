-- An audit entry says which operation it belongs to, by which way it came, and which version the record then had.
-- Its values have salted digests, which seals are made over: values can be erased and the seals still verify.

ALTER TABLE audit_entries
    ADD COLUMN version integer,
    ADD COLUMN operation_id uuid,
    ADD COLUMN via text,
    ADD COLUMN salt bytea,
    ADD COLUMN old_digest bytea,
    ADD COLUMN new_digest bytea,
    DROP CONSTRAINT audit_entries_action_check,
    ADD CONSTRAINT audit_entries_action_check
        CHECK (action IN ('create', 'update', 'delete', 'restore', 'purge', 'merge', 'erase', 'export')) NOT VALID;
CREATE INDEX audit_entries_operation_idx ON audit_entries (tenant_id, operation_id, id) WHERE operation_id IS NOT NULL;

ALTER TABLE idempotency_keys ADD COLUMN operation_id uuid;

-- An undo brings a deleted stage back as it was: with its id, and after the version that it had.
GRANT INSERT (id, version, created_at) ON pipeline_stages TO crm_service;

-- The digest of an entry's values. The salt keeps anybody from guessing erased values by their digest.
CREATE FUNCTION crm_values_digest(salt bytea, document jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT
RETURN sha256(salt || convert_to(document::text, 'UTF8'));
GRANT EXECUTE ON FUNCTION crm_values_digest(bytea, jsonb) TO crm_service, crm_search, crm_maintenance;

-- Writes the audit entries of a statement's rows. Arguments: resource type, columns that are left out, and the column
-- that marks built-in rows, whose INSERT is not audited. It runs as the tables' owner, because the service may not
-- write audit entries; the transaction's setting crm.actor says who acts. PostgreSQL caches the plan, which was made
-- for few rows: with many, its nested loop would take forever. A deletion for good names what it is as `removal`, `purge`
-- or `erase`, and does not copy the values.
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
                SELECT *, CASE jsonb_typeof(changed -> 'deleted_at')
                    WHEN 'string' THEN 'delete' WHEN 'null' THEN 'restore' ELSE 'update' END AS action
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
