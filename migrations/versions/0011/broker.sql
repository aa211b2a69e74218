-- Up to which event a reader has all of a tenant's; no row means none yet.
CREATE TABLE feed_places (
    tenant_id varchar(64) NOT NULL,
    reader text NOT NULL,
    sequence bigint NOT NULL,
    CONSTRAINT feed_places_pkey PRIMARY KEY (tenant_id, reader)
);
CREATE POLICY maintenance ON feed_places TO crm_maintenance USING (true);
GRANT SELECT, INSERT ON feed_places TO crm_maintenance;

-- Which process is a reader now, and until when unless it says so again: rows without a tenant.
CREATE TABLE feed_readers (
    tenant_id varchar(64) DEFAULT '' NOT NULL,
    reader text NOT NULL,
    holder uuid,
    held_until timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT feed_readers_pkey PRIMARY KEY (tenant_id, reader),
    CONSTRAINT feed_readers_tenant_id_check CHECK (tenant_id = '')
);
CREATE POLICY maintenance ON feed_readers TO crm_maintenance USING (true);
GRANT SELECT, INSERT, UPDATE (holder, held_until) ON feed_readers TO crm_maintenance;

-- Whether this process is the reader for so many seconds from now. 0 seconds: no longer. A new reader begins now: it is
-- not given what was before.
CREATE FUNCTION crm_lead_feed(name text, process uuid, seconds double precision) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM feed_readers WHERE reader = name) THEN
        INSERT INTO feed_readers (reader) VALUES (name) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO feed_places (tenant_id, reader, sequence)
            SELECT tenant_id, name, newest FROM crm_feed_ends();
        END IF;
    END IF;
    UPDATE feed_readers SET holder = process, held_until = clock_timestamp() + make_interval(secs => least(seconds, 60))
    WHERE reader = name AND (holder = process OR held_until < clock_timestamp());
    RETURN FOUND;
END $$;

-- The newest event of each tenant, by one look into the index for each.
CREATE FUNCTION crm_feed_ends() RETURNS TABLE (tenant_id varchar, newest bigint) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE ends AS (
        (SELECT tenant_id, sequence FROM audit_seals ORDER BY tenant_id DESC, sequence DESC LIMIT 1)
        UNION ALL
        SELECT before.* FROM ends CROSS JOIN LATERAL (
            SELECT tenant_id, sequence FROM audit_seals WHERE audit_seals.tenant_id < ends.tenant_id
            ORDER BY tenant_id DESC, sequence DESC LIMIT 1
        ) AS before
    )
    SELECT tenant_id, greatest(ends.sequence, audit_cuts.sequence)
    FROM ends FULL JOIN audit_cuts USING (tenant_id);
$$;

-- The tenants with events which this reader has not yet, and how many these are: of all tenants, or of those with events
-- whose entry is after this one. `mark` is the newest entry that is an event, to go on from.
CREATE FUNCTION crm_feed_news(name text, since bigint, OUT mark bigint, OUT tenants varchar[], OUT behind bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    SELECT coalesce(max(entry_id), 0) INTO mark FROM audit_seals WHERE hash IS NOT NULL;
    SELECT coalesce(array_agg(tenant_id), '{}'), coalesce(sum(newest - coalesce(sequence, 0)), 0) INTO tenants, behind
    FROM (
        SELECT tenant_id, newest FROM crm_feed_ends() WHERE since IS NULL
        UNION ALL
        SELECT tenant_id, max(sequence) FROM audit_seals WHERE hash IS NOT NULL AND entry_id > since GROUP BY tenant_id
    ) AS ends
    LEFT JOIN (SELECT tenant_id, sequence FROM feed_places WHERE reader = name) AS place USING (tenant_id)
    WHERE newest > coalesce(sequence, 0) AND EXISTS (SELECT FROM feed_readers WHERE reader = name);
END $$;
