-- The audit log, and the chain of hashes over it.

CREATE TABLE audit_entries (
    tenant_id varchar(64) NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    resource_type text NOT NULL,
    resource_id bigint NOT NULL,
    action text NOT NULL CHECK (action IN ('create', 'update', 'delete', 'restore')),
    user_id text,
    user_name text,
    user_role text,
    old_values jsonb,
    new_values jsonb,
    ip_address text,
    user_agent text,
    request_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_entries_resource_idx ON audit_entries (tenant_id, resource_type, resource_id, id);
CREATE INDEX audit_entries_user_idx ON audit_entries (tenant_id, user_id, id);
CREATE INDEX audit_entries_request_idx ON audit_entries (tenant_id, request_id);
CREATE INDEX audit_entries_created_at_idx ON audit_entries (tenant_id, created_at, id);
CREATE INDEX audit_entries_id_idx ON audit_entries (id);

-- No foreign key: an entry that somebody deletes must leave its seal behind.
CREATE TABLE audit_seals (
    tenant_id varchar(64) NOT NULL,
    sequence bigint NOT NULL CHECK (sequence > 0),
    entry_id bigint NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (tenant_id, sequence),
    CONSTRAINT audit_seals_entry_key UNIQUE (tenant_id, entry_id)
);
CREATE INDEX audit_seals_entry_idx ON audit_seals (entry_id);

-- Up to where entries may be sealed; one row, of no tenant. Each entry up to `complete` was committed or never will be.
-- The same is true of those up to `mark` once no transaction older than `transaction` is running.
CREATE TABLE audit_progress (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id = ''),
    complete bigint NOT NULL,
    mark bigint,
    transaction bigint,
    PRIMARY KEY (tenant_id)
);
INSERT INTO audit_progress (tenant_id, complete) VALUES ('', 0);

CREATE POLICY maintenance ON audit_progress TO crm_maintenance USING (true);
CREATE POLICY maintenance ON audit_entries FOR SELECT TO crm_maintenance USING (true);
CREATE POLICY maintenance ON audit_seals TO crm_maintenance USING (true);
GRANT SELECT, UPDATE ON audit_progress TO crm_maintenance;
GRANT SELECT ON audit_entries TO crm_maintenance;
GRANT SELECT, INSERT ON audit_seals TO crm_maintenance;

-- `crm audit` reads the logs of all tenants as the role crm_auditor. The policies compare current_user, so that members
-- of the role who did not SET ROLE see nothing extra.
CREATE POLICY auditor ON audit_entries FOR SELECT TO crm_auditor USING (current_user = 'crm_auditor');
CREATE POLICY auditor ON audit_seals FOR SELECT TO crm_auditor USING (current_user = 'crm_auditor');
GRANT SELECT ON audit_entries, audit_seals TO crm_auditor;

-- JSON as app.records.audit_chain writes it: sorted, without blanks, and a number below a millionth with an exponent.
CREATE FUNCTION crm_canonical_json(document jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    number text;
    digits text;
BEGIN
    CASE jsonb_typeof(document)
    WHEN 'object' THEN
        RETURN (
            SELECT '{' || coalesce(string_agg(member, ',' ORDER BY key COLLATE "C"), '') || '}'
            FROM jsonb_each(document)
            CROSS JOIN LATERAL (SELECT to_json(key) || ':' || crm_canonical_json(value) AS member) AS members
        );
    WHEN 'array' THEN
        RETURN (
            SELECT '[' || coalesce(string_agg(crm_canonical_json(value), ',' ORDER BY place), '') || ']'
            FROM jsonb_array_elements(document) WITH ORDINALITY AS elements (value, place)
        );
    WHEN 'number' THEN
        number := document::text;
        IF number ~ '^-?0\.000000' AND length(split_part(number, '.', 2)) > 6 THEN
            digits := ltrim(split_part(number, '.', 2), '0');
            RETURN CASE WHEN number LIKE '-%' THEN '-' ELSE '' END || CASE
                WHEN digits = '' THEN '0'
                WHEN length(digits) = 1 THEN digits
                ELSE left(digits, 1) || '.' || substr(digits, 2)
            END || 'E-' || (length(split_part(number, '.', 2)) - greatest(length(digits) - 1, 0));
        END IF;
        RETURN number;
    ELSE
        RETURN document::text;
    END CASE;
END $$;

-- Seals the next entries, in the order of their ids. Answers how many, the last one that is sealed, and the newest one;
-- nulls while another transaction is sealing. The service may call it, but can't make a wrong seal with it.
CREATE FUNCTION crm_seal_audit(most bigint, OUT count bigint, OUT sealed bigint, OUT newest bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    progress record;
    entry record;
    previous record;
    place bigint;
BEGIN
    SELECT * INTO progress FROM audit_progress FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT coalesce(max(id), 0) INTO newest FROM audit_entries;
    SELECT coalesce(max(entry_id), 0) INTO sealed FROM audit_seals;
    count := 0;
    IF newest <= sealed THEN
        RETURN;
    END IF;
    -- After a restore on another server, the saved transaction id can be larger than ours.
    IF progress.mark IS NULL OR progress.transaction > pg_current_xact_id()::text::bigint THEN
        -- Every id up to `newest` belongs to a transaction older than ours.
        progress.mark := newest;
        progress.transaction := pg_current_xact_id()::text::bigint;
    END IF;
    IF pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= progress.transaction THEN
        progress.complete := progress.mark;
        progress.mark := NULL;
    END IF;
    UPDATE audit_progress SET complete = progress.complete, mark = progress.mark, transaction = progress.transaction;
    FOR entry IN
        SELECT * FROM audit_entries WHERE id > sealed AND id <= progress.complete ORDER BY id LIMIT least(most, 1000)
    LOOP
        SELECT sequence, hash INTO previous FROM audit_seals
        WHERE tenant_id = entry.tenant_id ORDER BY sequence DESC LIMIT 1;
        place := coalesce(previous.sequence, 0) + 1;
        INSERT INTO audit_seals (tenant_id, sequence, entry_id, hash)
        VALUES (entry.tenant_id, place, entry.id, sha256(
            coalesce(previous.hash, decode(repeat('00', 32), 'hex'))
            || convert_to(crm_canonical_json(jsonb_build_object(
                'tenant_id', entry.tenant_id, 'sequence', place, 'id', entry.id,
                'resource_type', entry.resource_type, 'resource_id', entry.resource_id, 'action', entry.action,
                'user_id', entry.user_id, 'user_name', entry.user_name, 'user_role', entry.user_role,
                'old_values', entry.old_values, 'new_values', entry.new_values, 'ip_address', entry.ip_address,
                'user_agent', entry.user_agent, 'request_id', entry.request_id,
                'created_at', to_char(entry.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS')
                    || CASE WHEN to_char(entry.created_at, 'US') = '000000' THEN ''
                            ELSE to_char(entry.created_at, '.US') END || 'Z'
            )), 'UTF8')
        ));
        sealed := entry.id;
        count := count + 1;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION crm_seal_audit(bigint) TO crm_service;
