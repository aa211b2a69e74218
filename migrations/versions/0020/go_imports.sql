-- The data of an organization come from the Go service's database: which one, and how far. While `opened_at` is null,
-- nobody works in this organization.
CREATE TABLE go_imports (
    tenant_id varchar(64) NOT NULL CHECK (tenant_id <> ''),
    source text NOT NULL,
    operation_id uuid NOT NULL,
    -- Stands for times that can't be told, so that coming back makes the same records.
    closed_at timestamptz NOT NULL DEFAULT now(),
    opened_at timestamptz,
    -- The customer for what had none.
    holder_id bigint NOT NULL,
    -- The table that is being copied, and the last id that is here.
    copying text NOT NULL,
    last_id bigint NOT NULL DEFAULT 0,
    CONSTRAINT go_imports_pkey PRIMARY KEY (tenant_id)
);
