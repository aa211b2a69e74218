-- The ids that a proposal mentions: in its request's path, and wherever a name ends with id.
CREATE FUNCTION crm_mentioned_in(request jsonb, changes jsonb, versions jsonb) RETURNS bigint[] LANGUAGE sql IMMUTABLE STRICT
RETURN ARRAY(
    SELECT DISTINCT mentioned[1]::bigint
    FROM regexp_matches(request::text || changes::text || versions::text, '(?:id": ?"?|/)(\d{1,18})\M', 'g') AS mentioned
);
GRANT EXECUTE ON FUNCTION crm_mentioned_in(jsonb, jsonb, jsonb) TO crm_maintenance, crm_search, crm_service;

-- What tools would do for a person, who approves it or not. An erasure deletes those that mention what is erased.
CREATE TABLE proposals (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id text NOT NULL,
    via text NOT NULL CHECK (via IN ('mcp', 'assistant')),
    tool text NOT NULL CHECK (tool <> ''),
    summary text NOT NULL CHECK (summary <> ''),
    title text,
    request jsonb NOT NULL,
    changes jsonb NOT NULL,
    more integer NOT NULL CHECK (more >= 0),
    versions jsonb NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'declined')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    operation_id uuid,
    conversation_id bigint,
    mentions bigint[] GENERATED ALWAYS AS (crm_mentioned_in(request, changes, versions)) STORED,
    CONSTRAINT proposals_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT proposals_decided_check CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX proposals_user_idx ON proposals (tenant_id, user_id, created_at, id);
CREATE INDEX proposals_end_idx ON proposals ((coalesce(decided_at, expires_at)));

-- Deletes proposals a day after they were decided, or could be; answers how many.
CREATE FUNCTION crm_prune_proposals(most bigint, OUT count bigint) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM proposals WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM proposals
        WHERE coalesce(decided_at, expires_at) < now() - interval '1 day'
        ORDER BY coalesce(decided_at, expires_at) LIMIT most
    );
    GET DIAGNOSTICS count = ROW_COUNT;
END $$;
GRANT EXECUTE ON FUNCTION crm_prune_proposals(bigint) TO crm_service;
