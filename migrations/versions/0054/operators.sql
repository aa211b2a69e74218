-- When operators' regular work was last done, such as a back-up: rows without a tenant.
CREATE TABLE routines (
    tenant_id varchar(64) DEFAULT '' NOT NULL,
    name text NOT NULL,
    done_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT routines_pkey PRIMARY KEY (tenant_id, name),
    CONSTRAINT routines_tenant_id_check CHECK (tenant_id = ''),
    CONSTRAINT routines_name_check CHECK (name IN ('backup', 'checkpoint', 'purge', 'sweep', 'verify'))
);
CREATE POLICY maintenance ON routines TO crm_maintenance USING (true);
GRANT SELECT, INSERT, UPDATE (done_at) ON routines TO crm_maintenance;

-- Notes that a piece of regular work is done, for monitors.
CREATE FUNCTION crm_note_routine(routine text) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    INSERT INTO routines (name) VALUES (routine)
    ON CONFLICT (tenant_id, name) DO UPDATE SET done_at = excluded.done_at
$$;

-- When each piece of regular work was last done, in seconds since 1970.
CREATE FUNCTION crm_routines() RETURNS TABLE (name text, done_at double precision) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT name, extract(epoch FROM done_at) FROM routines
$$;

-- How many audit entries are not sealed, of so many at most, and how old the first of them is.
CREATE FUNCTION crm_measure_sealing(most bigint, OUT unsealed bigint, OUT oldest double precision)
LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT count(*), coalesce(greatest(0, extract(epoch FROM now() - min(created_at))), 0) FROM (
        SELECT created_at FROM audit_entries
        WHERE id > coalesce((SELECT max(entry_id) FROM audit_seals WHERE hash IS NOT NULL), 0)
        ORDER BY id LIMIT most
    ) AS waiting
$$;

CREATE POLICY maintenance ON record_counts FOR SELECT TO crm_maintenance USING (true);
GRANT SELECT ON record_counts TO crm_maintenance;

-- Whether what is counted under this name are records of a tenant. The others are made by the database itself.
CREATE FUNCTION crm_is_record(counted text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN counted NOT IN ('attachment_bytes', 'audit_entries', 'customer_tags', 'duplicate_groups');

-- The tenants with the most records: how many of these are live, and the bytes of all their files.
CREATE FUNCTION crm_measure_tenants(most bigint) RETURNS TABLE (tenant_id text, records bigint, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT tenant_id, coalesce(sum(rows) FILTER (WHERE crm_is_record(counted)), 0)::bigint AS records,
        coalesce(sum(rows) FILTER (WHERE counted = 'attachment_bytes'), 0)::bigint
    FROM settings LEFT JOIN record_counts USING (tenant_id)
    GROUP BY tenant_id ORDER BY records DESC, tenant_id LIMIT most
$$;

-- Keeps the number of bytes of a tenant's files, those in the trash too: they are in the store.
CREATE FUNCTION crm_count_bytes() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM crm_add_count(tenant_id, 'attachment_bytes', '', sum(size)::bigint) FROM new_rows GROUP BY tenant_id;
    ELSE
        PERFORM crm_add_count(tenant_id, 'attachment_bytes', '', -sum(size)::bigint) FROM old_rows GROUP BY tenant_id;
    END IF;
    RETURN NULL;
END $$;

-- Refuses what would go beyond a limit of the tenant: `crm.max_records`, `crm.max_bytes` or `crm.max_members` of the
-- transaction, which the service sets from its own settings. What two transactions add at the same moment can go beyond
-- it by what one of them adds, since they do not wait for each other.
CREATE FUNCTION crm_refuse_more(resource text, there bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    most bigint := current_setting('crm.max_' || resource);
BEGIN
    IF there > most THEN
        RAISE check_violation USING
            MESSAGE = format('%s %s, of %s', there, resource, most), DETAIL = most::text,
            CONSTRAINT = 'quota_' || resource;
    END IF;
END $$;

CREATE FUNCTION crm_limit_records() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF coalesce(current_setting('crm.max_records', true), '') = '' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        IF NOT EXISTS (
            SELECT FROM old_rows JOIN new_rows USING (tenant_id, id)
            WHERE old_rows.deleted_at IS NOT NULL AND new_rows.deleted_at IS NULL
        ) THEN
            RETURN NULL;
        END IF;
    END IF;
    PERFORM crm_refuse_more('records', (
        SELECT coalesce(sum(rows), 0)::bigint FROM record_counts
        WHERE tenant_id = current_setting('crm.tenant', true) AND crm_is_record(counted)
    ));
    RETURN NULL;
END $$;

CREATE FUNCTION crm_limit_bytes() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF coalesce(current_setting('crm.max_bytes', true), '') <> '' THEN
        PERFORM crm_refuse_more('bytes', (
            SELECT coalesce(sum(rows), 0)::bigint FROM record_counts
            WHERE tenant_id = current_setting('crm.tenant', true) AND counted = 'attachment_bytes'
        ));
    END IF;
    RETURN NULL;
END $$;

-- Who is expected counts too; who is deactivated does not.
CREATE FUNCTION crm_limit_members() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF coalesce(current_setting('crm.max_members', true), '') <> '' AND (TG_OP = 'INSERT' OR NOT OLD.is_active) THEN
        PERFORM crm_refuse_more('members', (
            SELECT count(*) FROM members WHERE tenant_id = NEW.tenant_id AND is_active
        ));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER quota AFTER INSERT OR UPDATE ON members
    FOR EACH ROW WHEN (NEW.is_active) EXECUTE FUNCTION crm_limit_members();
