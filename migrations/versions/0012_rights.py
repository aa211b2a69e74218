"""What the service's login can do with SQL: no function is everybody's or takes SQL, and the database itself seals."""

from importlib import import_module

from migrations.rules import isolate, owned_by, run

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

CUSTOMERS, SALES, CHAIN = (
    import_module(f"migrations.versions.{name}") for name in ("0001_customers", "0002_sales", "0005_audit_chain")
)

OWNERSHIP = f"""
DROP FUNCTION crm_owns(regclass, bigint);
-- Whether a record belongs to the person who asks: whether the policies `own` let that person see it.
CREATE FUNCTION crm_owns(resource text, record_id bigint) RETURNS boolean LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    found boolean;
BEGIN
    IF resource IS NULL
        OR resource NOT IN ('customers', 'contacts', 'deals', 'activities', 'notes', 'attachments')
    THEN
        RAISE invalid_parameter_value USING MESSAGE = 'no record of this resource belongs to a person';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE id = $1)', resource) INTO found USING record_id;
    RETURN found;
END $$;
GRANT EXECUTE ON FUNCTION crm_owns(text, bigint) TO crm_service;
{owned_by("crm_service_own", "crm_owns(text, bigint)")}
"""

FIRST_STAGES = """
DROP FUNCTION crm_first_stages(text);
-- The stages that a tenant starts with: nobody's change, so unaudited. Only here can a stage get an origin.
CREATE FUNCTION crm_first_stages() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    tenant CONSTANT text := current_setting('crm.tenant', true);
BEGIN
    IF EXISTS (SELECT FROM pipeline_stages WHERE tenant_id = tenant) THEN
        RETURN;
    END IF;
    INSERT INTO pipeline_stages (tenant_id, name, display_name, "order", color, kind, probability, origin)
    SELECT tenant, name, display_name, position, color, kind, probability, name
    FROM (VALUES
        (1, 'prospecting', 'Prospecting', '#6366f1', 'open', 10),
        (2, 'qualification', 'Qualification', '#8b5cf6', 'open', 20),
        (3, 'proposal', 'Proposal', '#a855f7', 'open', 50),
        (4, 'negotiation', 'Negotiation', '#f59e0b', 'open', 75),
        (5, 'closed_won', 'Closed Won', '#22c55e', 'won', 100),
        (6, 'closed_lost', 'Closed Lost', '#ef4444', 'lost', 0)
    ) AS built_in (position, name, display_name, color, kind, probability)
    ON CONFLICT (tenant_id, name) DO NOTHING;
END $$;
GRANT EXECUTE ON FUNCTION crm_first_stages() TO crm_service;
"""

SEALING = f"""
-- Up to where entries may be sealed; one row, of no tenant. Each entry up to `complete` was committed or never will be;
-- so will be those up to `mark` once no transaction older than `transaction` is running.
CREATE TABLE audit_progress (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id = ''),
    complete bigint NOT NULL,
    mark bigint,
    transaction bigint,
    PRIMARY KEY (tenant_id)
);
INSERT INTO audit_progress (tenant_id, complete) VALUES ('', 0);
{isolate("audit_progress")}
CREATE POLICY keeper ON audit_progress TO crm_keeper USING (true);
CREATE POLICY keeper ON audit_entries FOR SELECT TO crm_keeper USING (true);
CREATE POLICY keeper ON audit_seals TO crm_keeper USING (true);
CREATE POLICY keeper ON idempotency_keys TO crm_keeper USING (created_at < now() - interval '24 hours');
GRANT SELECT, UPDATE ON audit_progress TO crm_keeper;
GRANT SELECT ON audit_entries TO crm_keeper;
GRANT SELECT, INSERT ON audit_seals TO crm_keeper;
GRANT SELECT (tenant_id, user_id, key, created_at), DELETE ON idempotency_keys TO crm_keeper;

-- JSON as app.records.audit_chain writes it: sorted, without blanks, and a number below a millionth with an exponent.
CREATE FUNCTION crm_canonical_json(document jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    number text;
    digits text;
BEGIN
    CASE jsonb_typeof(document)
    WHEN 'object' THEN
        RETURN (
            SELECT '{{' || coalesce(string_agg(member, ',' ORDER BY key COLLATE "C"), '') || '}}'
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
        IF number ~ '^-?0\\.000000' AND length(split_part(number, '.', 2)) > 6 THEN
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

-- Seals the next entries, in the order of their ids: how many, the last one that is sealed, and the newest that there
-- is; nulls while another transaction is at it. Whoever may call it can't make a wrong seal.
CREATE FUNCTION crm_seal(most bigint, OUT count bigint, OUT sealed bigint, OUT newest bigint) LANGUAGE plpgsql
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
    -- A mark of the future was restored, from another server.
    IF progress.mark IS NULL OR progress.transaction > pg_current_xact_id()::text::bigint THEN
        -- Whoever took an id up to the newest one had its transaction's number before that, and so before ours.
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

-- Drops idempotency keys whose day is over; how many.
CREATE FUNCTION crm_prune_idempotency_keys(most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM idempotency_keys WHERE (tenant_id, user_id, key) IN (
        SELECT tenant_id, user_id, key FROM idempotency_keys
        WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
GRANT EXECUTE ON FUNCTION crm_seal(bigint), crm_prune_idempotency_keys(bigint) TO crm_service;
{owned_by("crm_keeper", "crm_seal(bigint)", "crm_prune_idempotency_keys(bigint)")}

-- Who acts as crm_upkeep looks at all tenants' logs, and changes nothing; the service's login does so no more.
DROP POLICY sealing ON audit_seals;
DROP POLICY upkeep ON idempotency_keys;
REVOKE INSERT ON audit_seals FROM crm_upkeep;
REVOKE ALL ON idempotency_keys FROM crm_upkeep;
REVOKE SELECT (tenant_id, user_id, key, created_at) ON idempotency_keys FROM crm_upkeep;
"""
SEALING_BEFORE = """
DROP FUNCTION crm_seal(bigint), crm_prune_idempotency_keys(bigint), crm_canonical_json(jsonb);
DROP TABLE audit_progress;
DROP POLICY keeper ON audit_entries;
DROP POLICY keeper ON audit_seals;
DROP POLICY keeper ON idempotency_keys;
REVOKE ALL ON audit_entries, audit_seals, idempotency_keys FROM crm_keeper;
REVOKE SELECT (tenant_id, user_id, key, created_at) ON idempotency_keys FROM crm_keeper;
CREATE POLICY sealing ON audit_seals FOR INSERT TO crm_upkeep WITH CHECK (current_user = 'crm_upkeep');
CREATE POLICY upkeep ON idempotency_keys TO crm_upkeep
    USING (current_user = 'crm_upkeep' AND created_at < now() - interval '24 hours');
GRANT INSERT ON audit_seals TO crm_upkeep;
GRANT SELECT (tenant_id, user_id, key, created_at), DELETE ON idempotency_keys TO crm_upkeep;
"""

# Triggers fire for whoever changes a row; only who puts one on a table needs the right to its function. What only
# computes is in indexes and derived columns, and may be called by who reads and writes them.
NOT_FOR_EVERYBODY = """
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
DO $$
DECLARE
    made record;
    before text := current_setting('role');
BEGIN
    FOR made IN
        SELECT pg_proc.oid::regprocedure::text AS name, pg_get_userbyid(proowner) AS owner,
               provolatile = 'i' AND NOT prosecdef AS computes
        FROM pg_proc WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'crm\\_%'
    LOOP
        PERFORM set_config('role', made.owner, true);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', made.name);
        IF made.computes THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO crm_service, crm_search, crm_keeper', made.name);
        END IF;
        PERFORM set_config('role', before, true);
    END LOOP;
END $$;
"""


def upgrade() -> None:
    for statements in (OWNERSHIP, FIRST_STAGES, SEALING, NOT_FOR_EVERYBODY):
        run(statements)


def downgrade() -> None:
    run("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC")
    run(SEALING_BEFORE)
    run("DROP FUNCTION crm_owns(text, bigint), crm_first_stages()")
    for statements in (CUSTOMERS.OWNERSHIP, SALES.FIRST_STAGES):
        run(statements)
