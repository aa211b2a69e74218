-- Seals of version 2 are made over digests of an entry's values, and not over the values. So values can be erased by
-- law, and the chain still verifies. The first entry without `hash_v1` is where version 2 took over.

-- Whoever seals holds this row and skips the work if somebody else does. So nobody runs the old function on new columns.
SELECT set_config('crm.tenant', '', true);
SELECT FROM audit_progress FOR UPDATE;

ALTER TABLE audit_seals RENAME COLUMN hash TO hash_v1;
ALTER TABLE audit_seals RENAME CONSTRAINT audit_seals_hash_check TO audit_seals_hash_v1_check;
ALTER TABLE audit_seals
    ALTER COLUMN hash_v1 DROP NOT NULL,
    ADD COLUMN hash bytea CHECK (octet_length(hash) = 32);
DROP INDEX audit_seals_entry_idx;
CREATE INDEX audit_seals_sealed_idx ON audit_seals (entry_id) WHERE hash IS NOT NULL;
CREATE INDEX audit_seals_unsealed_idx ON audit_seals (entry_id) WHERE hash IS NULL;
GRANT UPDATE (hash) ON audit_seals TO crm_maintenance;

-- Which entry says that the values of this one were erased.
ALTER TABLE audit_entries ADD COLUMN erased_by bigint;
CREATE POLICY filling ON audit_entries FOR UPDATE TO crm_maintenance USING (true);
CREATE POLICY noting ON audit_entries FOR INSERT TO crm_maintenance WITH CHECK (true);
GRANT INSERT, UPDATE (old_values, new_values, salt, old_digest, new_digest, erased_by) ON audit_entries
    TO crm_maintenance;

-- Where a tenant's log now begins: after this entry, which was sealed and then deleted by retention. The log is no
-- longer complete before the time `until`.
CREATE TABLE audit_cuts (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    sequence bigint NOT NULL CHECK (sequence > 0),
    entry_id bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    hash_v1 bytea CHECK (octet_length(hash_v1) = 32),
    until timestamptz NOT NULL,
    PRIMARY KEY (tenant_id)
);
CREATE POLICY maintenance ON audit_cuts TO crm_maintenance USING (true);
CREATE POLICY auditor ON audit_cuts FOR SELECT TO crm_auditor USING (current_user = 'crm_auditor');
GRANT SELECT, INSERT, UPDATE ON audit_cuts TO crm_maintenance;
GRANT SELECT ON audit_cuts TO crm_auditor;

-- An entry keeps what it says, whoever changes it. Digests that are missing may be added. Values may be erased if an
-- entry of the action `erase` names this one.
CREATE FUNCTION crm_guard_audit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changeable text[] := '{old_values,new_values,salt,old_digest,new_digest,erased_by}';
BEGIN
    IF EXISTS (
        WITH named AS MATERIALIZED (
            SELECT tenant_id, erasure.id AS erased_by, entry::bigint AS id
            FROM audit_entries AS erasure CROSS JOIN LATERAL jsonb_array_elements(new_values -> 'entries') AS entry
            WHERE (tenant_id, erasure.id) IN (SELECT tenant_id, erased_by FROM new_rows) AND action = 'erase'
        )
        SELECT FROM new_rows AS after
            LEFT JOIN old_rows AS before ON before.tenant_id = after.tenant_id AND before.id = after.id
            LEFT JOIN named ON named.tenant_id = after.tenant_id AND named.id = after.id
                AND named.erased_by = after.erased_by
        WHERE NOT coalesce(
            to_jsonb(after) - changeable = to_jsonb(before) - changeable AND before.erased_by IS NULL
            AND CASE WHEN after.erased_by IS NULL THEN
                num_nonnulls(before.salt, before.old_digest, before.new_digest) = 0 AND octet_length(after.salt) = 16
                AND after.old_values::text IS NOT DISTINCT FROM before.old_values::text
                AND after.new_values::text IS NOT DISTINCT FROM before.new_values::text
                AND after.old_digest IS NOT DISTINCT FROM crm_values_digest(after.salt, after.old_values)
                AND after.new_digest IS NOT DISTINCT FROM crm_values_digest(after.salt, after.new_values)
            ELSE
                named.id IS NOT NULL AND before.action <> 'erase' AND before.resource_type <> 'audit_log'
                AND num_nonnulls(after.old_values, after.new_values, after.salt) = 0
                AND after.old_digest IS NOT DISTINCT FROM before.old_digest
                AND after.new_digest IS NOT DISTINCT FROM before.new_digest
            END,
            false
        )
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'an audit entry is not changed';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER guard AFTER UPDATE ON audit_entries REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION crm_guard_audit();

-- Erases the values of entries of the tenant, and writes the entry that says so and names them; answers its id. Entries
-- without values, and those that say what was erased or cut, are left as they are. Only what deletes the records for
-- good calls it: the service may not empty the log of others.
CREATE FUNCTION crm_erase_entries(kind text, record_id bigint, details jsonb, entry_ids bigint[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tenant text := current_setting('crm.tenant', true);
    actor record;
    named jsonb;
    new_salt bytea := uuid_send(gen_random_uuid());
    erasure bigint;
BEGIN
    IF coalesce(tenant, '') = '' OR jsonb_typeof(details) IS DISTINCT FROM 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'an erasure is of a tenant, and its details are an object';
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_trigger WHERE tgname = 'audit_delete' AND split_part(encode(tgargs, 'escape'), '\000', 1) = kind
    ) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no records of this kind are in the audit log';
    END IF;
    IF cardinality(entry_ids) > 10000 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'at most 10000 audit entries are erased at once';
    END IF;
    SELECT * INTO actor FROM jsonb_to_record(coalesce(nullif(current_setting('crm.actor', true), '')::jsonb, '{}')) AS
        given (user_id text, user_name text, user_role text, ip_address text, user_agent text, request_id text,
               operation_id uuid, via text);
    SELECT coalesce(jsonb_agg(id), '[]') INTO named FROM (
        SELECT id FROM audit_entries
        WHERE tenant_id = tenant AND id = ANY (entry_ids) AND num_nonnulls(old_values, new_values) > 0
            AND action <> 'erase' AND resource_type <> 'audit_log'
        ORDER BY id FOR UPDATE
    ) AS entries;
    details := details || jsonb_build_object('entries', named);
    INSERT INTO audit_entries (tenant_id, resource_type, resource_id, action, new_values, salt, new_digest,
        user_id, user_name, user_role, ip_address, user_agent, request_id, operation_id, via)
    VALUES (tenant, kind, record_id, 'erase', details, new_salt, crm_values_digest(new_salt, details),
        actor.user_id, actor.user_name, actor.user_role, actor.ip_address, actor.user_agent, actor.request_id,
        actor.operation_id, actor.via)
    RETURNING id INTO erasure;
    UPDATE audit_entries SET old_values = NULL, new_values = NULL, salt = NULL, erased_by = erasure
    WHERE tenant_id = tenant AND id IN (SELECT entry::bigint FROM jsonb_array_elements(named) AS entry);
    RETURN erasure;
END $$;
