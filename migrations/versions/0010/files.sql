-- Files that jobs have made, such as reports. They are small: so they are kept where the job is, in its transaction, and
-- go with it.
CREATE TABLE job_files (
    tenant_id varchar(64) NOT NULL,
    job_id bigint NOT NULL,
    name text NOT NULL,
    content_type text NOT NULL,
    -- Null once a customer is erased that it mentions.
    content bytea CHECK (octet_length(content) <= 16777216),
    -- The numbers in it that may be ids.
    mentions bigint[] NOT NULL,
    CONSTRAINT job_files_pkey PRIMARY KEY (tenant_id, job_id),
    CONSTRAINT job_files_job_fkey FOREIGN KEY (tenant_id, job_id) REFERENCES jobs (tenant_id, id) ON DELETE CASCADE
);
-- Most are packed already, or are sent as they are.
ALTER TABLE job_files ALTER COLUMN content SET STORAGE EXTERNAL;
GRANT SELECT, INSERT ON job_files TO crm_service;
GRANT SELECT (tenant_id, content, mentions), UPDATE (content) ON job_files TO crm_maintenance;
